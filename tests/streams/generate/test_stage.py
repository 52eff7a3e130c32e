"""The stage that writes answers, beside a real Kafka and a real Postgres."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import msgspec
import pytest

from backbone.kafka import BEGIN, AtEnd, PartitionReader, Received
from backbone.postgres import open_pool
from backbone.settings import PostgresSettings
from schemas.events import ControlSent, EvidenceRetrieved, QueryFinished, Reply
from schemas.ids import QueryId, new_query_id
from schemas.topics import ANSWERS, CONTROL, RESULTS, RETRIEVALS
from streams.adapters.control_feed import ControlFeed
from streams.adapters.postgres_questions import PostgresQuestions
from streams.generate.handler import Generate
from streams.runtime.stage import Stage
from tests.doubles.blobs import MemoryBlobs
from tests.streams.generate.test_handler import Ears, Slow
from tests.streams.runtime.bench import Broker, running
from tests.streams.runtime.bench import broker as connected
from tests.streams.runtime.factories import fresh
from tests.streams.runtime.waiting import until

pytestmark = pytest.mark.integration

LEASE_S = 30.0


@dataclass(kw_only=True)
class Bench:
    """A question in Postgres and in Kafka, and workers that may answer it."""

    broker: Broker
    pool: "asyncpg.Pool[Any]"
    retrievals: Any
    query: QueryId = field(default_factory=new_query_id)

    async def ask(self) -> None:
        await self.pool.execute(
            "INSERT INTO queries (id, tenant, question, reply_partition, deadline, generation) "
            "VALUES ($1, 'acme', '{}', 0, now() + interval '60 s', 'g1')",
            self.query,
        )
        await self.send()

    async def send(self) -> None:
        found = EvidenceRetrieved(
            query=self.query,
            tenant="acme",
            text="?",
            reply_partition=0,
            deadline_ms=0,
            asked_ms=0,
            generation="g1",
            evidence=[],
        )
        value = msgspec.json.encode(found)
        await self.broker.publisher.send(self.retrievals.name, key=self.query.encode(), value=value)

    def stage(self, slow: Slow, feed: ControlFeed, worker: str) -> Stage:
        handler = Generate(
            questions=PostgresQuestions(pool=self.pool, worker=worker, lease_s=LEASE_S),
            answerer=slow,
            cancellations=feed,
            observer=Ears(),
            lease_s=LEASE_S,
        )
        group = f"g.{self.retrievals.name}"
        return Stage(name="generate", group=group, topic=self.retrievals, handler=handler, slots=4, deadline_s=60)

    def feed(self) -> ControlFeed:
        return ControlFeed(settings=self.broker.settings, topic=CONTROL.name, blobs=MemoryBlobs())

    async def row(self) -> dict[str, Any]:
        row = await self.pool.fetchrow(
            "SELECT state, attempt, outcome, terminal_seq, answer, published_at IS NOT NULL AS published, "
            "lease_until <= now() AS lapsed FROM queries WHERE id = $1",
            self.query,
        )
        assert row is not None
        return dict(row)

    async def until_row(self, **wanted: Any) -> None:
        async with asyncio.timeout(20):
            while not wanted.items() <= (await self.row()).items():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def replies(self) -> list[Reply]:
        return [msgspec.json.decode(value, type=Reply) for value in await self._read(ANSWERS.name, 0)]

    async def results(self) -> list[QueryFinished]:
        values = [value for p in range(RESULTS.partitions) for value in await self._read(RESULTS.name, p)]
        return [msgspec.json.decode(value, type=QueryFinished) for value in values]

    async def _read(self, topic: str, partition: int) -> list[bytes]:
        values = []
        async with PartitionReader(self.broker.settings, topic, {partition: BEGIN}) as reader:
            async for item in reader:
                if isinstance(item, AtEnd):
                    break
                if isinstance(item, Received) and item.key == self.query.encode() and item.value is not None:
                    values.append(item.value)
        return values


@pytest.fixture
async def bench(kafka: str, postgres: Callable[[], Awaitable[str]]) -> AsyncIterator[Bench]:
    pool = await open_pool(PostgresSettings.model_validate({"postgres_dsn": await postgres()}))
    async with connected(kafka) as broker:
        retrievals = fresh(replace(RETRIEVALS))
        await broker.admin.ensure_topics([retrievals, ANSWERS, RESULTS, CONTROL])
        yield Bench(broker=broker, pool=pool, retrievals=retrievals)
    await pool.close()


async def test_a_cancel_stops_the_model_at_once_and_the_stored_text_is_the_one_that_was_told(bench: Bench) -> None:
    slow, feed = Slow(), bench.feed()
    following = asyncio.create_task(feed.run())
    await bench.ask()
    async with running(bench.broker, bench.stage(slow, feed, "w1")):
        slow.say("Öne ", "two ", "three")
        await until(lambda: slow.words.empty() and slow.asked == 1, every_s=0.01)
        await bench.pool.execute("UPDATE queries SET cancel_requested_at = now() WHERE id = $1", bench.query)
        nudge = msgspec.json.encode(ControlSent(kind="cancel", tenant="acme", query=bench.query))
        async with asyncio.timeout(LEASE_S / 6):
            # without a nudge it would take a third of the lease; the first one may come before the feed stands
            while not slow.stopped:
                await bench.broker.publisher.send(CONTROL.name, key=bench.query.encode(), value=nudge)
                await asyncio.sleep(0.02)
        await bench.until_row(outcome="cancelled", published=True)
    following.cancel()
    replies, row = await bench.replies(), await bench.row()
    told = "".join(reply.token or "" for reply in replies)
    assert told and "Öne two three".startswith(told)
    assert (row["answer"], row["terminal_seq"]) == ({"text": told}, len(replies) - 1)
    assert replies[-1].type == "cancelled"
    assert [(result.outcome, result.attempt) for result in await bench.results()] == [("cancelled", 1)]


async def test_a_worker_that_stops_gives_its_question_back_and_another_answers_it(bench: Bench) -> None:
    slow, quick = Slow(), Slow()
    slow.say("Half an ")
    quick.say("A whole answer.", "")
    await bench.ask()
    async with running(bench.broker, bench.stage(slow, bench.feed(), "w1")):
        await until(lambda: slow.words.empty() and slow.asked == 1, every_s=0.01)
        await bench.broker.until_committed(f"g.{bench.retrievals.name}", bench.retrievals, 1)
    assert slow.stopped
    assert (await bench.row())["lapsed"]

    await bench.send()
    async with running(bench.broker, bench.stage(quick, bench.feed(), "w2")):
        await bench.until_row(outcome="done", published=True)

    assert [(reply.attempt, reply.seq, reply.type) for reply in await bench.replies()] == [
        (1, 0, "token"),
        (2, 0, "token"),
        (2, 1, "answer"),
        (2, 2, "done"),
    ]
    assert [(result.outcome, result.attempt) for result in await bench.results()] == [("done", 2)]
