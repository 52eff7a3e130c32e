"""What every publisher does."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from backbone.kafka import Admin, Delivered, Publisher
from backbone.settings import KafkaSettings
from schemas.topics import ANSWERS, Topic
from streams.runtime.runner import Sender
from tests.doubles.publisher import MemoryPublisher


@pytest.fixture
def topic() -> Topic:
    return replace(ANSWERS, name=f"answers-{uuid.uuid4().hex}", partitions=2)


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
async def publisher(request: pytest.FixtureRequest, topic: Topic) -> AsyncIterator[Sender]:
    if request.param == "double":
        yield MemoryPublisher()
        return
    settings = KafkaSettings(kafka_bootstrap=request.getfixturevalue("kafka"))
    await Admin(settings).ensure_topics([topic])
    async with Publisher(settings) as real:
        yield real


async def test_each_record_of_a_partition_gets_the_next_offset(publisher: Sender, topic: Topic) -> None:
    first = publisher.send(topic.name, key=b"a", value=b"1", partition=0)
    other = publisher.send(topic.name, key=b"a", value=b"2", partition=1, headers=[("h", None), ("h", b"x")])
    second = publisher.send(topic.name, key=b"b", value=None, partition=0, headers={"h": b"y"})
    assert await second == Delivered(topic.name, 0, 1)
    assert await first == Delivered(topic.name, 0, 0)
    assert await other == Delivered(topic.name, 1, 0)
