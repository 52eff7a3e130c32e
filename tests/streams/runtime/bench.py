"""Running a worker inside a test, beside a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from backbone.kafka import BEGIN, Admin, AtEnd, PartitionReader, Publisher, Received
from backbone.settings import KafkaSettings
from schemas.topics import DEAD_LETTERS, QUERIES, STAGES, Topic
from streams.runtime.app import Timing
from streams.runtime.consumer import SafeConsumer
from streams.runtime.holders import Holders
from streams.runtime.observer import Observer
from streams.runtime.stage import Stage
from streams.runtime.worker import run_worker
from tests.doubles.blobs import MemoryBlobs
from tests.streams.runtime.factories import fresh, question
from tests.streams.runtime.waiting import until

QUICK = Timing(session_s=6.0, rebalance_s=10.0, drain_s=2.0)


@dataclass(frozen=True, kw_only=True)
class Broker:
    """A real broker, and what tests do with it."""

    settings: KafkaSettings
    admin: Admin
    publisher: Publisher

    async def topic(self, partitions: int = 1, **config: str) -> Topic:
        """Make a topic of questions that nobody used before; settings with `_` for `.`."""
        topic = fresh(QUERIES, partitions)
        overrides = {topic.name: {name.replace("_", "."): value for name, value in config.items()}}
        await self.admin.ensure_topics([topic], overrides)
        return topic

    async def put(self, topic: Topic, *texts: str, key: bytes | None = None, partition: int = 0) -> None:
        """Produce questions, each under its text as key unless one is given."""
        await asyncio.gather(
            *(
                self.publisher.send(
                    topic.name,
                    key=text.encode() if key is None else key,
                    value=msgspec.json.encode(question(text)),
                    partition=partition,
                )
                for text in texts
            )
        )

    async def committed(self, group: str, topic: Topic) -> int:
        """Sum of offsets from the committed positions to the beginning, by way of the lag."""
        ends = await self.admin.end_offsets(topic.name)
        return sum(ends.values()) - (await self.admin.group_lag(group, [topic.name]))[topic.name]

    async def until_committed(self, group: str, topic: Topic, offset: int, limit_s: float = 20.0) -> None:
        """Wait until the group has committed exactly that far."""
        async with asyncio.timeout(limit_s):
            while await self.committed(group, topic) != offset:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def read(self, topic: Topic, start: int | str = BEGIN) -> list[Received]:
        """Everything in partition 0, from the start."""
        starts: Any = {0: start}
        found = []
        async with PartitionReader(self.settings, topic.name, starts) as reader:
            async for item in reader:
                if isinstance(item, AtEnd):
                    break
                assert isinstance(item, Received)
                found.append(item)
        return found


@asynccontextmanager
async def broker(bootstrap: str) -> AsyncIterator[Broker]:
    """Connect to the broker and make sure that dead-letter topics exist."""
    settings = KafkaSettings(kafka_bootstrap=bootstrap)
    admin = Admin(settings)
    await admin.ensure_topics([DEAD_LETTERS.named(name) for name in STAGES])
    async with Publisher(settings) as publisher:
        yield Broker(settings=settings, admin=admin, publisher=publisher)


@asynccontextmanager
async def running(
    broker: Broker,
    *stages: Stage,
    timing: Timing = QUICK,
    consumer: type[SafeConsumer] = SafeConsumer,
    observer: Observer | None = None,
    holders: Holders | None = None,
) -> AsyncIterator["asyncio.Task[int]"]:
    """Run stages until the block ends; the block begins when they have their partitions."""
    ready = asyncio.Event()
    worker = asyncio.create_task(
        run_worker(
            stages,
            kafka=broker.settings,
            publisher=broker.publisher,
            blobs=MemoryBlobs(),
            observer=observer,
            on_ready=ready.set,
            timing=timing,
            consumer=consumer,
            holders=holders,
        )
    )
    try:
        await until(lambda: ready.is_set() or worker.done(), every_s=0.02)
        yield worker
    finally:
        worker.cancel()
        await asyncio.wait({worker})
