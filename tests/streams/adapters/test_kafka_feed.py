"""The view's feed on a real broker."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import pytest

from backbone.kafka import Admin, Publisher
from backbone.settings import KafkaSettings
from schemas import codec
from schemas.events import Filters
from schemas.topics import CHUNKS
from streams.adapters.kafka_feed import KafkaFeed
from streams.adapters.tantivy_view import TantivyView
from streams.errors import Transient
from tests.contract.lexical import NOW_MS, NoBlobs, chunked, key_of, until
from tests.doubles.clock import FrozenClock

pytestmark = pytest.mark.integration


async def test_the_view_follows_a_topic_and_finds_what_is_produced_at_once(kafka: str, tmp_path: Path) -> None:
    settings = KafkaSettings(kafka_bootstrap=kafka)
    topic = CHUNKS.named("lexical-view")
    await Admin(settings).ensure_topics([topic])
    view = TantivyView(
        folder=tmp_path / "view",
        feed=KafkaFeed(settings=settings, topic=topic.name),
        blobs=NoBlobs(),
        clock=FrozenClock(ms=NOW_MS),
    )
    async with Publisher(settings) as publisher:

        async def produce(number: int) -> None:
            key = key_of(f"d{number}")
            document = chunked(key, 1, {f"c{number}": f"dam unit{number}"})
            record = await codec.encode(document, key=key.encode(), source="/test", blobs=NoBlobs(), version=1)
            await publisher.send(topic.name, key=record.key, value=record.value, headers=dict(record.headers))

        await asyncio.gather(*(produce(number) for number in range(500)))
        running = asyncio.create_task(view.run())
        await asyncio.wait_for(view.catch_up(), 30)
        assert len(await view.matching("acme", "dam", Filters(), 1000)) == 500

        async def visible(number: int) -> bool:
            return bool(await view.matching("acme", f"unit{number}", Filters(), 1))

        waits_s = []
        for number in range(500, 520):
            await produce(number)
            produced = time.monotonic()
            await until(lambda number=number: visible(number))  # type: ignore[misc]
            waits_s.append(time.monotonic() - produced)
        print(f"produced to searchable: median {sorted(waits_s)[10]:.3f} s, worst {max(waits_s):.3f} s")
        assert max(waits_s) < timedelta(seconds=3).total_seconds()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_topic_that_does_not_exist_may_come_later(kafka: str) -> None:
    feed = KafkaFeed(settings=KafkaSettings(kafka_bootstrap=kafka), topic="rag.chunks.none.v1")

    with pytest.raises(Transient, match=r"rag\.chunks\.none\.v1"):
        await feed.topic_id()
    with pytest.raises(Transient, match=r"rag\.chunks\.none\.v1"):
        await feed.bounds()
