"""How questions end on a real Kafka and a real Postgres: swept, cancelled, asked twice."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
import msgspec
import pytest

from backbone.kafka import BEGIN, AtEnd, PartitionReader, Publisher, Received, Start
from backbone.objects import FolderBlobs
from backbone.postgres import open_pool
from backbone.settings import GatewaySettings
from schemas.codec import Record, decode, headers_of
from schemas.events import Answer, ControlSent, Event, Hit, QueryAsked, QueryFinished, Reply
from schemas.topics import ANSWERS, CONTROL, QUERIES, RESULTS, Topic
from tests.gateway.factories import ANSWER, question, reply, sources, whole_answer
from tests.gateway.real import responder, running

pytestmark = pytest.mark.integration
E = TypeVar("E", bound=Event)

HIT = Hit(document="gates.md", version=1, chunk="c1", score=0.8)
CLAIMED = "state = 'claimed', attempt = 1, claimed_by = 'w1', lease_until = now() + interval '60 s'"
LAPSED = "state = 'claimed', attempt = 1, claimed_by = 'w1', lease_until = now() - interval '1 s'"
LATE = "deadline = now() - interval '1 s'"
FINISHED = "state = 'finished', attempt = 1, outcome = 'done', terminal_seq = 3, finished_at = now() - interval '1 min'"


@dataclass(frozen=True, kw_only=True)
class World:
    """What stands in Postgres and Kafka."""

    settings: GatewaySettings
    pool: "asyncpg.Pool[Any]"

    async def ask(self, change: str = "state = 'pending'", **values: Any) -> QueryAsked:
        """Insert a question of acme, as a gateway that died since did, and change its row."""
        asked = question(reply_partition=3, deadline_ms=61_000)
        await self.pool.execute(
            "INSERT INTO queries (id, tenant, question, reply_partition, deadline, generation) "
            "VALUES ($1, 'acme', $2, 3, now() + interval '60 s', 'g1')",
            asked.query,
            msgspec.to_builtins(asked),
        )
        sets = [f"{name} = ${n}" for n, name in enumerate(values, 2)]
        await self.pool.execute(
            f"UPDATE queries SET {', '.join([change, *sets])} WHERE id = $1", asked.query, *values.values()
        )
        return asked

    async def say(self, *replies: Reply) -> None:
        """Put replies into the log, as a worker does."""
        async with Publisher(self.settings) as publisher:
            for each in replies:
                value = msgspec.json.encode(each)
                await publisher.send(ANSWERS.name, key=each.query.encode(), value=value, partition=3)

    async def read(self, topic: Topic, event: type[E], asked: QueryAsked) -> list[E]:
        """Return what the topic holds of a question, repeats left out: what Kafka acknowledges late is sent again."""
        blobs, left = FolderBlobs(self.settings.objects_dir), set(range(topic.partitions))
        found: list[E] = []
        starts: dict[int, Start] = dict.fromkeys(left, BEGIN)
        async with asyncio.timeout(20), PartitionReader(self.settings, topic.name, starts) as reader:
            async for item in reader:
                match item:
                    case Received(key=key) if key == asked.query.encode():
                        wire = Record(key=key, value=item.value, headers=headers_of(item.headers))
                        read = await decode(wire, event, blobs=blobs)
                        if read is not None and read not in found:
                            found.append(read)
                    case AtEnd(partition=partition):
                        left.discard(partition)
                        if not left:
                            break
        return found

    async def until(self, condition: str, *asked: QueryAsked) -> None:
        """Wait until the rows of these questions are so."""
        query = f"SELECT count(*) FROM queries WHERE id = ANY($1) AND {condition}"
        async with asyncio.timeout(30):
            while await self.pool.fetchval(query, [each.query for each in asked]) < len(asked):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@pytest.fixture
async def world(settings: GatewaySettings) -> AsyncIterator[World]:
    """Nothing asked yet; gateways sweep ten times a second."""
    quick = settings.model_copy(update={"sweep_interval_ms": 100, "republish_after_ms": 1_000})
    pool = await open_pool(quick)
    yield World(settings=quick, pool=pool)
    await pool.close()


async def test_two_gateways_do_what_others_left_behind(world: World) -> None:
    lying = await world.ask(FINISHED, answer=msgspec.to_builtins(ANSWER), hits=[msgspec.to_builtins(HIT)])
    lapsed = await world.ask(LAPSED)
    late, late_claimed = await world.ask(LATE), await world.ask(f"{CLAIMED}, {LATE}")

    async with running(world.settings), running(world.settings):
        await world.until("published_at IS NOT NULL", lying, late, late_claimed)
        await world.until("state = 'pending' AND requeued_at IS NOT NULL AND claimed_by IS NULL", lapsed)

    assert [(each.type, each.seq) for each in await world.read(ANSWERS, Reply, lying)] == [("answer", 2), ("done", 3)]
    [result] = await world.read(RESULTS, QueryFinished, lying)
    assert (result.outcome, result.answer, result.hits, result.groups) == ("done", ANSWER, [HIT], ["staff"])
    assert await world.read(QUERIES, QueryAsked, lapsed) == [lapsed]
    for asked in (late, late_claimed):
        assert [each.error for each in await world.read(ANSWERS, Reply, asked)] == ["deadline_exceeded"]
        assert [each.outcome for each in await world.read(RESULTS, QueryFinished, asked)] == ["error"]


async def test_a_question_is_cancelled_in_each_of_its_states(world: World) -> None:
    pending, claimed = await world.ask(), await world.ask(CLAIMED)
    done = await world.ask(FINISHED, answer=msgspec.to_builtins(ANSWER))
    await world.say(sources(claimed), *whole_answer(claimed)[:1], reply(claimed, "token", 1, 1, token="at 4.2"))

    async with running(world.settings) as client, client("acme-key") as acme, client("globex-key") as globex:
        foreign = await globex.delete(f"/v1/queries/{pending.query}")
        ended = [(await acme.delete(f"/v1/queries/{each.query}")).json() for each in (pending, claimed, done)]
        again = [(await acme.delete(f"/v1/queries/{each.query}")).json() for each in (pending, claimed, done)]

    assert foreign.status_code == 404
    assert [(each["outcome"], each["answer"]) for each in ended] == [
        ("cancelled", ""),
        ("cancelled", "It opens at 4.2"),
        ("done", ANSWER.text),
    ]
    assert again == ended
    [*_, last] = await world.read(ANSWERS, Reply, claimed)
    assert (last.type, last.attempt, last.seq, last.answer) == ("cancelled", 1, 2, Answer(text="It opens at 4.2"))
    assert [each.query for each in await world.read(CONTROL, ControlSent, claimed)] == [claimed.query]
    assert [each.outcome for each in await world.read(RESULTS, QueryFinished, claimed)] == ["cancelled"]
    assert [each.type for each in await world.read(ANSWERS, Reply, pending)] == ["cancelled"]


async def test_twenty_requests_with_one_key_ask_one_question(world: World) -> None:
    body, key = {"query": "When does it open?"}, {"Idempotency-Key": "k1"}
    async with (
        running(world.settings) as client,
        running(world.settings) as other,
        responder(world.settings, world.pool),
        client("acme-key") as here,
        other("acme-key") as there,
    ):
        gateways = [here, there] * 10
        responses = await asyncio.gather(*(each.post("/v1/query", json=body, headers=key) for each in gateways))
        documents = {"documents": [{"text": "A gate."}]}
        receipts = await asyncio.gather(
            *(each.post("/v1/ingest", json=documents, headers={"Idempotency-Key": "k2"}) for each in gateways[:6])
        )

    [id] = {response.json()["id"] for response in responses}
    assert {(response.status_code, response.json()["answer"]) for response in responses} == {(200, ANSWER.text)}
    assert [str(row["id"]) for row in await world.pool.fetch("SELECT id FROM queries")] == [id]
    assert len({receipt.text for receipt in receipts}) == 1
