"""What every reader of partitions does."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from backbone.kafka import (
    BEGIN,
    END,
    Admin,
    AtEnd,
    Last,
    MissingTopic,
    Overtaken,
    PartitionReader,
    Publisher,
    Received,
    Start,
    client_config,
)
from backbone.settings import KafkaSettings
from gateway.log.reader import Item, Reader
from schemas.topics import ANSWERS
from tests.doubles.partition_log import MemoryLog

Place = tuple[str, int, int]


@dataclass(frozen=True, kw_only=True)
class Log:
    """A topic of two partitions: how to add a record, to delete those before an offset, to open a reader."""

    append: Callable[[int, bytes], Awaitable[object]]
    delete_before: Callable[[int, int], Awaitable[object]]
    open: Callable[[Mapping[int, Start]], AbstractAsyncContextManager[Reader]]


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
async def log(request: pytest.FixtureRequest) -> AsyncIterator[Log]:
    topic = replace(ANSWERS, name=f"answers-{uuid.uuid4().hex}", partitions=2)
    if request.param == "double":
        memory = MemoryLog(topic.name, {0: 0, 1: 0})

        async def append_there(partition: int, value: bytes) -> None:
            memory.append(partition, b"k", value)

        async def delete_there(partition: int, offset: int) -> None:
            memory.delete_before(partition, offset)

        yield Log(append=append_there, delete_before=delete_there, open=memory.open)
        return
    settings = KafkaSettings(kafka_bootstrap=request.getfixturevalue("kafka"))
    await Admin(settings).ensure_topics([topic])
    client = AdminClient(client_config(settings))
    async with Publisher(settings) as publisher:

        async def append(partition: int, value: bytes) -> None:
            await publisher.send(topic.name, key=b"k", value=value, partition=partition)

        async def delete_before(partition: int, offset: int) -> None:
            (deleted,) = client.delete_records([TopicPartition(topic.name, partition, offset)]).values()
            await asyncio.wrap_future(deleted)

        yield Log(append=append, delete_before=delete_before, open=partial(PartitionReader, settings, topic.name))


async def read(items: AsyncIterator[Item], n: int) -> list[Place]:
    """Read so many items: what, partition, offset."""
    found: list[Place] = []
    async with asyncio.timeout(20):
        for _ in range(n):
            match await anext(items):
                case Received(partition=partition, offset=offset):
                    found.append(("record", partition, offset))
                case AtEnd(partition=partition, offset=offset):
                    found.append(("end", partition, offset))
                case Overtaken(partition=partition, resumed=offset):
                    found.append(("overtaken", partition, offset))
    return found


async def test_it_reads_from_an_offset_to_the_end_and_goes_on(log: Log) -> None:
    for n in range(3):
        await log.append(0, str(n).encode())
    async with log.open({0: 1}) as reader:
        items = reader.__aiter__()
        assert await read(items, 3) == [("record", 0, 1), ("record", 0, 2), ("end", 0, 3)]
        await log.append(0, b"3")
        assert await read(items, 2) == [("record", 0, 3), ("end", 0, 4)]


async def test_it_starts_at_the_beginning_the_end_or_so_many_before_the_end(log: Log) -> None:
    for n in range(3):
        await log.append(0, str(n).encode())
    places: list[tuple[Start, int]] = [(BEGIN, 0), (Last(2), 1), (Last(9), 0), (END, 3)]
    for start, first in places:
        async with log.open({0: start}) as reader:
            expected = [("record", 0, offset) for offset in range(first, 3)] + [("end", 0, 3)]
            assert await read(reader.__aiter__(), len(expected)) == expected


async def test_it_says_where_it_goes_on_when_records_are_gone(log: Log) -> None:
    for n in range(4):
        await log.append(0, str(n).encode())
    await log.delete_before(0, 3)
    async with log.open({0: 1}) as reader:
        assert await read(reader.__aiter__(), 3) == [("overtaken", 0, 3), ("record", 0, 3), ("end", 0, 4)]


async def test_partitions_are_added_and_dropped(log: Log) -> None:
    await log.append(0, b"0")
    await log.append(1, b"0")
    async with log.open({0: 0}) as reader:
        items = reader.__aiter__()
        assert await read(items, 2) == [("record", 0, 0), ("end", 0, 1)]
        await reader.add({1: 0})
        assert await read(items, 2) == [("record", 1, 0), ("end", 1, 1)]
        assert reader.partitions == {0, 1}
        reader.drop(0)
        await log.append(0, b"unheard")
        await log.append(1, b"heard")
        assert await read(items, 2) == [("record", 1, 1), ("end", 1, 2)]


async def test_a_partition_that_is_not_there_is_named(log: Log) -> None:
    with pytest.raises(MissingTopic, match=r"has partitions 0 to 1, not \[7\]"):
        async with log.open({7: END}):
            pass
