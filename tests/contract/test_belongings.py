"""What every `Belongings` does."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient

from backbone.kafka import Admin
from backbone.settings import KafkaSettings
from schemas.topics import CHUNKS, EMBEDDINGS
from streams.adapters.kafka_belongings import KafkaBelongings
from streams.operator.generations import Belongings, InUse
from streams.ports import Generation
from tests.doubles.belongings import MemoryBelongings

JOIN_S = 60


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A generation and what it owns; `reading` runs a member of a group, which leaves the group behind."""

    belongings: Belongings
    generation: Generation
    topics: Callable[[], Awaitable[set[str]]]
    groups: Callable[[], Awaitable[set[str]]]
    reading: Callable[[str], AbstractAsyncContextManager[None]]

    @property
    def chunks(self) -> str:
        return CHUNKS.named(self.generation.chunker).name

    @property
    def embeddings(self) -> str:
        return EMBEDDINGS.named(self.generation.name).name

    @property
    def owned(self) -> list[str]:
        """Its own groups."""
        return [f"rag.embed.{self.generation.name}", f"rag.index.{self.generation.name}"]

    @property
    def chunkers(self) -> str:
        """The group that cuts for all generations of its chunker."""
        return f"rag.chunk.{self.generation.chunker}"

    async def use(self) -> None:
        """Leave every group behind."""
        for group in (*self.owned, self.chunkers):
            async with self.reading(group):
                pass


def in_memory(generation: Generation) -> Bench:
    double = MemoryBelongings()

    async def topics() -> set[str]:
        return set(double.topics)

    async def groups() -> set[str]:
        return set(double.groups)

    @asynccontextmanager
    async def reading(group: str) -> AsyncIterator[None]:
        double.groups[group] = 1
        yield
        double.groups[group] = 0

    return Bench(belongings=double, generation=generation, topics=topics, groups=groups, reading=reading)


def in_kafka(bootstrap: str, generation: Generation) -> Bench:
    settings = KafkaSettings(kafka_bootstrap=bootstrap)
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    mine = (generation.name, generation.chunker)

    async def topics() -> set[str]:
        # a deleted topic stays in sight for a moment
        return {name for name in client.list_topics(timeout=10).topics if any(each in name for each in mine)}

    async def groups() -> set[str]:
        listed = await asyncio.to_thread(client.list_consumer_groups().result, 10)
        return {group.group_id for group in listed.valid if any(each in group.group_id for each in mine)}

    @asynccontextmanager
    async def reading(group: str) -> AsyncIterator[None]:
        consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False, "log_level": 0}
        )
        consumer.subscribe([EMBEDDINGS.named(generation.name).name])
        async with asyncio.timeout(JOIN_S):
            while not consumer.assignment():
                await asyncio.to_thread(consumer.poll, 0.1)
        places = consumer.position(consumer.assignment())
        for place in places:
            place.offset = 0
        consumer.commit(offsets=places, asynchronous=False)
        try:
            yield
        finally:
            await asyncio.to_thread(consumer.close)

    return Bench(
        belongings=KafkaBelongings(admin=Admin(settings)),
        generation=generation,
        topics=topics,
        groups=groups,
        reading=reading,
    )


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def bench(request: pytest.FixtureRequest) -> Bench:
    name = uuid.uuid4().hex[:12]
    generation = Generation(name=f"g{name}", chunker=f"c{name}", embedder="e", dim=4, state="asked")
    return (
        in_memory(generation) if request.param == "double" else in_kafka(request.getfixturevalue("kafka"), generation)
    )


async def test_it_reads_and_writes_a_topic_of_its_own_each(bench: Bench) -> None:
    for _ in range(2):
        await bench.belongings.make(bench.generation)

    assert await bench.topics() == {bench.chunks, bench.embeddings}


async def test_dropping_keeps_chunks_that_somebody_needs(bench: Bench) -> None:
    await bench.belongings.make(bench.generation)
    await bench.use()
    assert await bench.groups() == {*bench.owned, bench.chunkers}

    for _ in range(2):
        await bench.belongings.drop(bench.generation, chunks_too=False)

    assert await until_gone(bench, bench.embeddings) == {bench.chunks}
    assert await bench.groups() == {bench.chunkers}


async def test_dropping_the_last_one_that_needs_the_chunks_leaves_nothing(bench: Bench) -> None:
    await bench.belongings.make(bench.generation)
    await bench.use()

    for _ in range(2):
        await bench.belongings.drop(bench.generation, chunks_too=True)

    assert await until_gone(bench, bench.chunks) == set()
    assert await bench.groups() == set()


async def test_nothing_is_dropped_while_one_of_its_groups_is_read(bench: Bench) -> None:
    await bench.belongings.make(bench.generation)
    await bench.use()

    async with bench.reading(bench.owned[1]):
        with pytest.raises(InUse, match=rf"group '{bench.owned[1]}' has 1 member"):
            await bench.belongings.drop(bench.generation, chunks_too=True)

    assert await bench.topics() == {bench.chunks, bench.embeddings}
    assert await bench.groups() == {*bench.owned, bench.chunkers}


async def test_the_worker_that_cuts_for_others_is_no_hindrance(bench: Bench) -> None:
    await bench.belongings.make(bench.generation)

    async with bench.reading(bench.chunkers):
        await bench.belongings.drop(bench.generation, chunks_too=False)
        with pytest.raises(InUse, match=rf"group '{bench.chunkers}' has 1 member"):
            await bench.belongings.drop(bench.generation, chunks_too=True)


async def until_gone(bench: Bench, topic: str) -> set[str]:
    """Topics, once one of them is out of sight."""
    async with asyncio.timeout(30):
        while topic in (found := await bench.topics()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found
