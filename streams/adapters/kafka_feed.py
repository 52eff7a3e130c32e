"""The feed of the lexical view from Kafka: all partitions of one topic, in batches, with places that step over gaps."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress

from confluent_kafka import KafkaException

from backbone.kafka import Admin, AtEnd, MissingTopic, Overtaken, PartitionReader, Received
from backbone.settings import KafkaSettings
from schemas import codec
from streams.adapters.tantivy_view import FeedBatch
from streams.errors import Fatal, Transient

_BATCH_MAX = 100
_POLL_S = 0.1
Item = Received | AtEnd | Overtaken


class KafkaFeed:
    """Reads one topic for one view.

    Args:
        settings: how to reach Kafka.
        topic: name of an existing topic.
    """

    def __init__(self, *, settings: KafkaSettings, topic: str) -> None:
        self._settings = settings
        self._topic = topic

    async def topic_id(self) -> str:
        """Return Kafka's id of the topic.

        Raises:
            Transient: Kafka is away, or the topic does not exist yet.
        """
        try:
            return (await Admin(self._settings).topic_ids([self._topic]))[self._topic]
        except (KafkaException, MissingTopic) as error:
            raise Transient(f"topic {self._topic!r} cannot be described: {error}") from error

    async def bounds(self) -> Mapping[int, tuple[int, int]]:
        """Return (first offset, end offset) of every partition.

        Raises:
            Transient: Kafka is away, or the topic does not exist yet.
        """
        admin = Admin(self._settings)
        try:
            first, end = await admin.start_offsets(self._topic), await admin.end_offsets(self._topic)
        except (KafkaException, MissingTopic) as error:
            raise Transient(f"offsets of topic {self._topic!r} cannot be read: {error}") from error
        return {partition: (first[partition], end[partition]) for partition in end}

    async def read(self, start: Mapping[int, int]) -> AsyncIterator[FeedBatch]:
        """Yield batches from these offsets on, without end; an empty one after 100 ms without records.

        Raises:
            Fatal: records were deleted before they were read, or the client is broken; a new start sorts it out.
        """
        arrived: asyncio.Queue[Item] = asyncio.Queue(_BATCH_MAX)
        next_offsets = dict(start)
        try:
            async with PartitionReader(self._settings, self._topic, start) as reader:
                pump = asyncio.create_task(_pump(reader, arrived), name=f"feed {self._topic}")
                try:
                    while True:
                        yield self._batch(await _drain(arrived), next_offsets)
                        if pump.done():
                            await pump
                finally:
                    pump.cancel()
                    with suppress(asyncio.CancelledError):
                        await pump
        except (KafkaException, MissingTopic) as error:
            raise Fatal(f"topic {self._topic!r} cannot be read: {error}") from error

    def _batch(self, items: list[Item], next_offsets: dict[int, int]) -> FeedBatch:
        records = []
        for item in items:
            match item:
                case Received():
                    next_offsets[item.partition] = item.offset + 1
                    headers = codec.headers_of(item.headers)
                    records.append((item.partition, codec.Record(key=item.key, value=item.value, headers=headers)))
                case AtEnd():
                    next_offsets[item.partition] = item.offset
                case Overtaken():
                    raise Fatal(
                        f"topic {self._topic!r} lost records of partition {item.partition} before they were read"
                    )
        return FeedBatch(records=records, next_offsets=dict(next_offsets))


async def _pump(reader: PartitionReader, arrived: asyncio.Queue[Item]) -> None:
    async for item in reader:
        await arrived.put(item)


async def _drain(arrived: asyncio.Queue[Item]) -> list[Item]:
    try:
        # not wait_for: up to Python 3.11 it forgets that it was cancelled where its result comes at that moment, and
        # whoever waits for the reader to end would wait for ever
        async with asyncio.timeout(_POLL_S):
            items = [await arrived.get()]
    except TimeoutError:
        return []
    while len(items) < _BATCH_MAX and not arrived.empty():
        items.append(arrived.get_nowait())
    return items
