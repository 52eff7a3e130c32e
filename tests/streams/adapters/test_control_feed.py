"""Nudges by way of a real Kafka."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from backbone.kafka import Admin, Publisher
from backbone.settings import KafkaSettings
from schemas.events import ControlSent
from schemas.ids import QueryId
from schemas.topics import CONTROL
from streams.adapters.control_feed import ControlFeed
from tests.doubles.blobs import MemoryBlobs
from tests.streams.runtime.waiting import until

pytestmark = pytest.mark.integration


class Bench:
    """A feed that runs, and who sends to it."""

    def __init__(self, settings: KafkaSettings, publisher: Publisher) -> None:
        self.feed = ControlFeed(settings=settings, blobs=MemoryBlobs())
        self._publisher = publisher

    async def send(self, value: bytes | None) -> None:
        await self._publisher.send(CONTROL.name, key=b"k", value=value)

    async def cancel(self, query: str, kind: str = "cancel") -> None:
        await self.send(msgspec.json.encode(ControlSent(kind=kind, tenant="acme", query=query)))


@asynccontextmanager
async def bench(kafka: str) -> AsyncIterator[Bench]:
    settings = KafkaSettings(kafka_bootstrap=kafka)
    async with Publisher(settings) as publisher:
        stand = Bench(settings, publisher)
        running = asyncio.create_task(stand.feed.run())
        await Admin(settings).ensure_topics([CONTROL])
        with stand.feed.watching(QueryId("probe")) as probe:
            # the feed reads from the end on: what is sent before it stands there is not for it
            async with asyncio.timeout(30):
                while not probe.is_set():
                    await stand.cancel("probe")
                    await asyncio.sleep(0.05)
        try:
            yield stand
        finally:
            running.cancel()
            await asyncio.wait({running})


async def test_only_who_watches_a_question_is_nudged_and_what_cannot_be_read_is_left_out(kafka: str) -> None:
    async with bench(kafka) as stand:
        first, second = stand.feed.watching(QueryId("q1")), stand.feed.watching(QueryId("q1"))
        with first as one, second as two, stand.feed.watching(QueryId("q2")) as other:
            await stand.send(b"\xff")
            await stand.send(None)
            await stand.cancel("q2", kind="of a later version")
            await stand.cancel("unwatched")
            await stand.cancel("q1")
            await until(lambda: one.is_set() and two.is_set(), every_s=0.01)
            assert not other.is_set()
        assert stand.feed._watched == {}
