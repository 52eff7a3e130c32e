"""Produces a share of the records of our own topics again, as producers do that try again, and zombies."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from confluent_kafka import OFFSET_END, Consumer, Message, Producer, TopicPartition

from schemas.topics import ANSWERS, CHUNKS, DOCUMENTS, EMBEDDINGS, LIFECYCLE, QUERIES, RESULTS, RETRIEVALS
from tests.faults.history import History

SHARE: Final = 0.05
PATIENCE_S: Final = 60.0
TOPICS: Final = (
    DOCUMENTS,
    CHUNKS.named("structure"),
    EMBEDDINGS.named("g1"),
    LIFECYCLE,
    QUERIES,
    RETRIEVALS,
    ANSWERS,
    RESULTS,
)
"""All but what outsiders write: there the same record once more is another submission."""


@dataclass(kw_only=True)
class Duplicating:
    """Repeats records as they come: same partition, key, value and headers.

    Attributes:
        kafka: bootstrap addresses.
        rng: says which.
        history: counts them.
    """

    kafka: str
    rng: random.Random
    history: History
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Repeat until told to stop."""
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": "faults-duplicating", "log_level": 0})
        producer = Producer({"bootstrap.servers": self.kafka, "log_level": 0})
        try:
            await asyncio.to_thread(_to_the_end, consumer)
            while not self.stop.is_set():
                for message in await asyncio.to_thread(consumer.consume, 500, 0.2):
                    if message.error() is None and self.rng.random() < SHARE:
                        self._repeat(producer, message)
                producer.poll(0)
            await asyncio.to_thread(producer.flush, PATIENCE_S)
        finally:
            consumer.close()

    def _repeat(self, producer: Producer, message: Message) -> None:
        topic, partition = message.topic(), message.partition()
        assert topic is not None
        assert partition is not None
        self.history.add("repeated", topic=topic, partition=partition, offset=message.offset())
        headers = message.headers()
        producer.produce(topic, key=message.key(), value=message.value(), headers=headers, partition=partition)


def _to_the_end(consumer: Consumer) -> None:
    known = consumer.list_topics(timeout=PATIENCE_S).topics
    places: Sequence[TopicPartition] = [
        TopicPartition(topic.name, partition, OFFSET_END)
        for topic in TOPICS
        for partition in known[topic.name].partitions
    ]
    consumer.assign(list(places))
