"""Records that no stage can handle, sent by a producer of other partitioning, and the dead letters they become."""

import asyncio
import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from schemas.dead_letters import PREFIX
from schemas.topics import DEAD_LETTERS, INGEST, QUERIES, STAGES
from tests.faults.history import History
from tests.stack import Stack

SHARE = 0.01
"""Of all documents and questions that are sent."""
DELIVERY_S = 60.0
Headers = Sequence[tuple[str, str | bytes | None]]


@dataclass(kw_only=True)
class Poison:
    """Sends them as the load goes on. Its client hashes keys by CRC32, ours by murmur2.

    Attributes:
        kafka: bootstrap addresses.
        history: counts what the load sent, and takes what is sent here.
    """

    kafka: str
    history: History
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _n: int = 0

    async def run(self) -> None:
        """Send until told to stop; at least one document and one question."""
        producer = Producer(
            {
                "bootstrap.servers": self.kafka,
                "partitioner": "consistent_random",
                "enable.idempotence": True,
                "delivery.timeout.ms": int(DELIVERY_S * 1000),
                "log_level": 0,
            }
        )
        while not self.stop.is_set():
            counts = self.history.counts
            if self._n < 2 + SHARE * (counts["submit"] + counts["ask"]):
                self._send(producer)
            await asyncio.to_thread(producer.poll, 0.2)
        await asyncio.to_thread(producer.flush, DELIVERY_S)

    def _send(self, producer: Producer) -> None:
        self._n += 1
        n = self._n
        topic = (INGEST, QUERIES)[n % 2].name
        key, value = f"acme/poison-{n}", (f'{{"text": {n}}}', f'{{"text": "cut off {n}')[n // 2 % 2].encode()
        headers: list[tuple[str, str | bytes | None]] = [("sent-by", b"a stranger"), ("number", str(n).encode())]
        self.history.add("poison", poison=n, topic=topic, key=key, value=_text(value), headers=_texts(headers))

        def delivered(error: object, _: Message) -> None:
            self.history.add("poison_acknowledged" if error is None else "poison_lost", poison=n)

        producer.produce(topic, key=key, value=value, headers=headers, on_delivery=delivered)


def note_dead_letters(stack: Stack, history: History) -> None:
    """Write down every dead letter that is kept, without the headers that it got as such."""
    for stage in STAGES:
        for message in records(stack, DEAD_LETTERS.named(stage).name):
            headers = list(cast(Headers, message.headers() or []))
            why = {
                name[len(PREFIX) :]: str(_bytes(value), "utf-8") for name, value in headers if name.startswith(PREFIX)
            }
            history.add(
                "dead_letter",
                stage=stage,
                topic=why["topic"],
                key=_bytes(message.key()).decode(errors="replace"),
                value=_text(message.value()),
                headers=_texts([pair for pair in headers if not pair[0].startswith(PREFIX)]),
                why=f"{why['reason']}: {why['message']}",
            )


def records(stack: Stack, topic: str) -> list[Message]:
    """Read a topic from beginning to end."""
    consumer = Consumer({"bootstrap.servers": stack.kafka, "group.id": "faults", "log_level": 0})
    found: list[Message] = []
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        places = [TopicPartition(topic, partition, 0) for partition in partitions]
        left = sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
        consumer.assign(places)
        while len(found) < left:
            for message in consumer.consume(500, timeout=10):
                assert message.error() is None, message.error()
                found.append(message)
    finally:
        consumer.close()
    return found


def _bytes(value: str | bytes | None) -> bytes:
    return value.encode() if isinstance(value, str) else value or b""


def _text(value: str | bytes | None) -> str | None:
    """Bytes as JSON can hold them, exactly."""
    return None if value is None else base64.b64encode(_bytes(value)).decode()


def _texts(headers: Headers) -> list[tuple[str, str | None]]:
    return [(name, _text(value)) for name, value in headers]
