"""Two gateways on one Kafka and one Postgres: a stream that breaks on one goes on at the other."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import httpx
import msgspec
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from httpx_sse import ServerSentEvent, aconnect_sse

from backbone.kafka import Admin, Publisher, client_config
from backbone.postgres import open_pool
from backbone.settings import GatewaySettings
from gateway.app import create_app
from gateway.ports import Services
from gateway.reply_leases import LEASE_S, ReplyLease
from schemas.events import Answer, LifecycleChanged, QueryAsked, Reply
from schemas.postgres.generation import create_generation, point_alias
from schemas.topics import ANSWERS, LIFECYCLE, concrete
from tests.gateway.factories import KEYS, question, reply, sources
from tests.gateway.serving import served

pytestmark = pytest.mark.integration
ENDS = ("done", "error", "cancelled")


@pytest.fixture
async def settings(kafka: str, postgres: Callable[[], Awaitable[str]], tmp_path: Path) -> GatewaySettings:
    """Settings of gateways whose topics and tables exist."""
    dsn = await postgres()
    connection = await asyncpg.connect(dsn)
    await create_generation(connection, "g1", "structure", "test", 4)
    await point_alias(connection, "live", "g1")
    await connection.close()
    (tmp_path / "keys.json").write_text(json.dumps(KEYS))
    values = {
        "kafka_bootstrap": kafka,
        "postgres_dsn": dsn,
        "objects_dir": tmp_path / "objects",
        "api_keys_file": tmp_path / "keys.json",
        "score_wait_ms": 0,
    }
    settings = GatewaySettings.model_validate(values)
    await Admin(settings).ensure_topics(concrete(chunker="structure", generation="g1"))
    return settings


@asynccontextmanager
async def running(settings: GatewaySettings) -> AsyncIterator[tuple[httpx.AsyncClient, Services]]:
    """Serve a gateway over HTTP until the block ends; gives a client of acme, and what is behind."""
    app = create_app(settings)
    async with served(app) as url:
        headers = {"Authorization": "Bearer acme-key"}
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client, asyncio.timeout(30):
            while (await client.get("/ready")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            yield client, app.state.services


async def accept(services: Services) -> QueryAsked:
    """Accept a question by this gateway, without sending it to any worker."""
    replies = services.replies
    assert replies.partition is not None
    asked = question(reply_partition=replies.partition)
    await services.questions.insert(asked, reply_offset=replies.end)
    return asked


async def say(publisher: Publisher, asked: QueryAsked, *replies: Reply) -> None:
    for each in replies:
        key, value = asked.query.encode(), msgspec.json.encode(each)
        await publisher.send(ANSWERS.name, key=key, value=value, partition=asked.reply_partition)


async def read(client: httpx.AsyncClient, query: str, place: str | None, n: int) -> list[ServerSentEvent]:
    """Read at most so many events, then break off."""
    headers = {} if place is None else {"Last-Event-ID": place}
    events: list[ServerSentEvent] = []
    async with aconnect_sse(client, "GET", f"/v1/queries/{query}/events", headers=headers) as source:
        async for event in source.aiter_sse():
            events.append(event)
            if len(events) == n or event.event in ENDS:
                break
    return events


async def test_a_stream_cut_anywhere_goes_on_at_the_other_gateway_without_gap_or_repeat(
    settings: GatewaySettings,
) -> None:
    rng = random.Random(5)
    words = [f"w{n} " for n in range(60)]
    async with (
        running(settings) as (one, services),
        running(settings) as (other, _),
        Publisher(settings) as publisher,
    ):
        questions = [await accept(services) for _ in range(10)]

        async def write(asked: QueryAsked) -> None:
            await say(publisher, asked, sources(asked))
            for seq, word in enumerate(words):
                await say(publisher, asked, *[reply(asked, "token", 1, seq, token=word)] * rng.choice((1, 1, 2)))
            answer = reply(asked, "answer", 1, len(words), answer=Answer(text="".join(words)))
            await say(publisher, asked, answer, reply(asked, "done", 1, len(words) + 1))

        async def follow(asked: QueryAsked) -> list[ServerSentEvent]:
            events: list[ServerSentEvent] = []
            place: str | None = None
            while not events or events[-1].event not in ENDS:
                client = rng.choice((one, other))
                events += await read(client, asked.query, place, rng.randint(1, 12))
                place = next((event.id for event in reversed(events) if event.id), None)
            return events

        async with asyncio.timeout(60):
            streams, *_ = await asyncio.gather(
                asyncio.gather(*map(follow, questions)), asyncio.gather(*map(write, questions))
            )

    for events in streams:
        tokens = [event.json()["text"] for event in events if event.event == "token"]
        assert "".join(tokens) == "".join(words)
        offsets = [int(event.id.split(":")[1]) for event in events if event.event in ("sources", "token", *ENDS)]
        assert offsets == sorted(set(offsets))
        assert [event.event for event in events if event.event in ENDS] == ["done"]


async def test_what_kafka_has_deleted_is_told_from_the_row(settings: GatewaySettings) -> None:
    pool = await open_pool(settings)
    async with running(settings) as (one, services), Publisher(settings) as publisher:
        asked = await accept(services)
        answer = Answer(text="It opens at 4.2 metres.")
        await say(
            publisher,
            asked,
            sources(asked),
            reply(asked, "token", 1, 0, token=answer.text),
            reply(asked, "answer", 1, 1, answer=answer),
            reply(asked, "done", 1, 2),
        )
        kept = [event.event for event in await read(one, asked.query, None, 100)]
        await pool.execute(
            "UPDATE queries SET state = 'finished', outcome = 'done', attempt = 1, terminal_seq = 2, answer = $2, "
            "finished_at = now(), published_at = now() WHERE id = $1",
            asked.query,
            msgspec.to_builtins(answer),
        )
    end = (await Admin(settings).end_offsets(ANSWERS.name))[asked.reply_partition]
    client = AdminClient(client_config(settings))
    (deleted,) = client.delete_records([TopicPartition(ANSWERS.name, asked.reply_partition, end)]).values()
    await asyncio.wrap_future(deleted)
    async with running(settings) as (other, _):
        gone = await read(other, asked.query, None, 100)
        resumed = await read(other, asked.query, f"{asked.reply_partition}:{end - 2}", 100)
    await pool.close()

    assert kept == ["accepted", "sources", "token", "answer", "done"]
    assert [event.event for event in gone] == ["accepted", "answer", "done"]
    assert [event.event for event in resumed] == ["reset", "answer", "done"]
    assert resumed[1].json()["answer"] == answer.text


async def test_documents_are_followed_on_either_gateway(settings: GatewaySettings) -> None:
    pool = await open_pool(settings)
    await pool.execute("INSERT INTO documents (tenant, document, latest_version) VALUES ('acme', 'a/b', 1)")

    async def change(publisher: Publisher, status: str) -> None:
        event = LifecycleChanged(
            tenant="acme", document="a/b", version=1, status=status, stage=status, at_ms=1_700_000_000_000
        )
        await publisher.send(LIFECYCLE.name, key=b"acme/a/b", value=msgspec.json.encode(event))

    async def follow(client: httpx.AsyncClient, place: str | None, n: int) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        headers = {} if place is None else {"Last-Event-ID": place}
        async with aconnect_sse(client, "GET", "/v1/documents/a%2Fb/events", headers=headers) as source:
            async for event in source.aiter_sse():
                events.append(event)
                if len(events) == n:
                    return events
        return events

    async with running(settings) as (one, _), running(settings) as (other, _), Publisher(settings) as publisher:
        async with asyncio.timeout(30):
            [state] = await follow(one, None, 1)
            await change(publisher, "accepted")
            await change(publisher, "chunked")
            first = await follow(other, state.id, 2)
            await change(publisher, "embedded")
            rest = await follow(one, first[-1].id, 3)
    await pool.close()

    assert [event.event for event in first] == ["state", "accepted"]
    assert [event.event for event in rest] == ["state", "chunked", "embedded"]


async def test_gateways_share_out_the_reply_partitions_and_keep_theirs(settings: GatewaySettings) -> None:
    pool = await open_pool(settings)
    async with running(settings) as (_, one), running(settings) as (_, other):
        partitions = {one.replies.partition, other.replies.partition}
        rows = await pool.fetch("SELECT reply_partition, lease_until - now() AS left FROM gateways")
        assert len(partitions) == 2
        assert {row["reply_partition"] for row in rows} == partitions
        assert all(0 < row["left"].total_seconds() <= LEASE_S for row in rows)
        # A sweeper that drops the row of a gateway that was cut off does not move it.
        await pool.execute("DELETE FROM gateways")
        lease = ReplyLease(pool=pool, admin=Admin(settings), replies=one.replies)
        assert one.replies.partition is not None
        await lease.renew(one.replies.partition)
        assert await pool.fetchval("SELECT reply_partition FROM gateways") == one.replies.partition
    await pool.close()


async def test_a_gateway_that_stops_gives_its_partition_back(settings: GatewaySettings) -> None:
    pool = await open_pool(settings)
    async with running(settings):
        assert await pool.fetchval("SELECT count(*) FROM gateways") == 1
    assert await pool.fetchval("SELECT count(*) FROM gateways") == 0
    await pool.close()
