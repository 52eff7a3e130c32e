"""Nudges by way of a real Kafka."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from structlog.testing import capture_logs

from backbone.kafka import Admin, Publisher
from backbone.settings import KafkaSettings
from schemas.events import ControlSent
from schemas.ids import QueryId
from schemas.topics import CONTROL
from streams.adapters.control_feed import ControlFeed
from tests.doubles.blobs import MemoryBlobs
from tests.streams.runtime.factories import fresh
from tests.streams.runtime.waiting import until

pytestmark = pytest.mark.integration


class Bench:
    """A feed of a topic that nobody used before, and who sends to it."""

    def __init__(self, settings: KafkaSettings, publisher: Publisher) -> None:
        self.topic = fresh(CONTROL)
        self.feed = ControlFeed(settings=settings, topic=self.topic.name, blobs=MemoryBlobs())
        self._admin = Admin(settings)
        self._publisher = publisher

    async def make_topic(self) -> None:
        await self._admin.ensure_topics([self.topic])

    async def send(self, value: bytes | None) -> None:
        await self._publisher.send(self.topic.name, key=b"k", value=value)

    async def cancel(self, query: str, kind: str = "cancel") -> None:
        await self.send(msgspec.json.encode(ControlSent(kind=kind, tenant="acme", query=query)))

    async def until_it_reads(self) -> None:
        """Nudge until that is heard: what is sent before the feed stands at the end is not for it."""
        with self.feed.watching(QueryId("probe")) as probe:
            async with asyncio.timeout(30):
                while not probe.is_set():
                    await self.cancel("probe")
                    await asyncio.sleep(0.05)


@pytest.fixture
async def bench(kafka: str) -> AsyncIterator[Bench]:
    settings = KafkaSettings(kafka_bootstrap=kafka)
    async with Publisher(settings) as publisher:
        stand = Bench(settings, publisher)
        running = asyncio.create_task(stand.feed.run())
        yield stand
        running.cancel()
        await asyncio.wait({running})


async def test_only_who_watches_a_question_is_nudged_and_what_cannot_be_read_is_left_out(bench: Bench) -> None:
    await bench.make_topic()
    await bench.until_it_reads()
    first, second = bench.feed.watching(QueryId("q1")), bench.feed.watching(QueryId("q1"))
    with first as one, second as two, bench.feed.watching(QueryId("q2")) as other:
        await bench.send(b"\xff")
        await bench.send(None)
        await bench.cancel("q2", kind="of a later version")
        await bench.cancel("unwatched")
        await bench.cancel("q1")
        await until(lambda: one.is_set() and two.is_set(), every_s=0.01)
        assert not other.is_set()
    assert bench.feed._watched == {}


async def test_a_topic_that_cannot_be_read_is_tried_again(bench: Bench) -> None:
    with capture_logs() as logs:
        await until(lambda: [log["event"] for log in logs] == ["control_topic_cannot_be_read"], every_s=0.01)
    await bench.make_topic()
    await bench.until_it_reads()
