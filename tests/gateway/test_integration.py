"""The gateway on a real Kafka and a real Postgres; a small responder plays the workers."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec
import pytest

from backbone.kafka import END, Admin, PartitionReader, Publisher, Received, Start
from backbone.objects import FolderBlobs
from backbone.postgres import open_pool
from backbone.settings import GatewaySettings
from gateway.app import create_app
from schemas.codec import Record, decode, headers_of
from schemas.events import DocumentSubmitted, QueryAsked, Reply
from schemas.postgres.generation import create_generation, point_alias
from schemas.topics import ANSWERS, INGEST, QUERIES, concrete
from tests.gateway.factories import ANSWER, EVIDENCE, KEYS, reply, sources, sse, whole_answer

pytestmark = pytest.mark.integration


@pytest.fixture
async def settings(kafka: str, postgres: Callable[[], Awaitable[str]], tmp_path: Path) -> GatewaySettings:
    """Settings of a gateway whose topics and tables exist."""
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
    }
    settings = GatewaySettings.model_validate(values)
    await Admin(settings).ensure_topics(concrete(chunker="structure", generation="g1"))
    return settings


@asynccontextmanager
async def running(settings: GatewaySettings) -> AsyncIterator[Callable[[str], httpx.AsyncClient]]:
    """Run a gateway until the block ends; gives a client for a key."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)

        def client(key: str) -> httpx.AsyncClient:
            headers = {"Authorization": f"Bearer {key}"}
            return httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers, timeout=30)

        async with asyncio.timeout(20), client("acme-key") as probe:
            while (ready := await probe.get("/ready")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert set(ready.json()["parts"]) == {"kafka", "postgres", "objects", "reply_reader"}
        yield client


@asynccontextmanager
async def responder(settings: GatewaySettings, pool: Any) -> AsyncIterator[None]:
    """Play retrieve and generate: sources or hits, then an answer, stored before it is done."""
    blobs = FolderBlobs(settings.objects_dir)

    async def respond(publisher: Publisher, asked: QueryAsked) -> None:
        async def say(*replies: Reply) -> None:
            for each in replies:
                value = msgspec.json.encode(each)
                await publisher.send(
                    ANSWERS.name, key=asked.query.encode(), value=value, partition=asked.reply_partition
                )

        if asked.kind == "search":
            await say(reply(asked, "hits", 0, 0, evidence=[EVIDENCE]))
            return
        *before, done = whole_answer(asked)
        await say(sources(asked), *before)
        await pool.execute(
            "UPDATE queries SET state = 'finished', attempt = 1, answer = $2, finished_at = now() WHERE id = $1",
            asked.query,
            msgspec.to_builtins(ANSWER),
        )
        await say(done)

    async def work(reader: PartitionReader, publisher: Publisher) -> None:
        async for item in reader:
            if isinstance(item, Received):
                record = Record(key=item.key, value=item.value, headers=headers_of(item.headers))
                asked = await decode(record, QueryAsked, blobs=blobs)
                assert asked is not None
                await respond(publisher, asked)

    starts: dict[int, Start] = dict.fromkeys(range(QUERIES.partitions), END)
    async with Publisher(settings) as publisher, PartitionReader(settings, QUERIES.name, starts) as reader:
        working = asyncio.create_task(work(reader, publisher))
        yield
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def test_a_question_travels_through_kafka_and_is_kept_over_a_restart(settings: GatewaySettings) -> None:
    pool = await open_pool(settings)
    async with running(settings) as client, responder(settings, pool), client("acme-key") as acme:
        streamed = await acme.post("/v1/query", json={"query": "When?", "stream": True, "user_id": "ada"})
        whole = await acme.post("/v1/query", json={"query": "When?"})
        hits = await acme.post("/v1/search", json={"query": "gate"})
    events = sse(streamed.text)
    async with running(settings) as client, client("acme-key") as acme, client("globex-key") as globex:
        kept = await acme.get(events[0][1]["url"])
        foreign = await globex.get(events[0][1]["url"])
    await pool.close()

    assert [name for name, _, _ in events] == ["accepted", "sources", "token", "token", "answer", "done"]
    assert all(place for _, _, place in events[1:])
    assert whole.json()["answer"] == ANSWER.text
    assert hits.json()["hits"][0]["document_id"] == "gates.md"
    assert (kept.json()["state"], kept.json()["answer"], kept.json()["user_id"]) == ("finished", ANSWER.text, "ada")
    assert foreign.status_code == 404


async def test_an_unanswered_question_ends_at_its_deadline_in_postgres(settings: GatewaySettings) -> None:
    short = settings.model_copy(update={"query_timeout_ms": 300})
    async with running(short) as client, client("acme-key") as acme:
        response = await acme.post("/v1/query", json={"query": "Anyone?"})
        kept = (await acme.get(f"/v1/queries/{response.json()['id']}")).json()

    assert response.status_code == 504
    assert (kept["state"], kept["error"]["reason"]) == ("finished", "deadline_exceeded")


async def test_a_submission_stands_in_the_log_at_its_place_and_is_applied_by_offset(settings: GatewaySettings) -> None:
    pool = await open_pool(settings)
    async with running(settings) as client, client("acme-key") as acme:
        [receipt] = (
            await acme.post("/v1/ingest", json={"documents": [{"id": "a/b", "text": "x" * 1_100_000}]})
        ).json()["documents"]
        partition, offset = map(int, receipt["submission"].split(":"))
        event = await _read(settings, partition, offset)
        wanted = {"documents": [{"id": "a/b", "submission": receipt["submission"]}]}
        before = (await acme.post("/v1/documents/lookup", json=wanted)).json()["documents"][0]
        topic_id = (await Admin(settings).topic_ids([INGEST.name]))[INGEST.name]
        await pool.execute(
            "INSERT INTO documents (tenant, document, latest_version, origins) VALUES ('acme', 'a/b', 1, $1)",
            {f"{topic_id}/{partition}": {"offset": offset, "version": 1}},
        )
        after = (await acme.post("/v1/documents/lookup", json=wanted)).json()["documents"][0]
    await pool.close()

    assert event == DocumentSubmitted(text="x" * 1_100_000)
    assert before["status"] == "submitted"
    assert (after["status"], after["latest_version"]) == ("accepted", 1)


async def _read(settings: GatewaySettings, partition: int, offset: int) -> DocumentSubmitted | None:
    async with asyncio.timeout(20), PartitionReader(settings, INGEST.name, {partition: offset}) as reader:
        async for item in reader:
            if isinstance(item, Received):
                assert item.key == b"acme/a/b"
                record = Record(key=item.key, value=item.value, headers=headers_of(item.headers))
                return await decode(record, DocumentSubmitted, blobs=FolderBlobs(settings.objects_dir))
    return None


async def test_documents_are_listed_by_tenant_and_only_what_is_live_is_shown(settings: GatewaySettings) -> None:
    pool, blobs = await open_pool(settings), FolderBlobs(settings.objects_dir)
    for tenant, document, acl in (
        ("acme", "a", None),
        ("acme", "b", ["staff"]),
        ("acme", "c", ["board"]),
        ("acme", "d", None),
        ("globex", "a", None),
    ):
        await pool.execute(
            "INSERT INTO documents (tenant, document, latest_version, status, acl) VALUES ($1, $2, 2, 'indexed', $3)",
            tenant,
            document,
            acl,
        )
        await pool.execute(
            "INSERT INTO live (generation, tenant, document, version, content_sha256, acl) "
            "VALUES ('g1', $1, $2, 2, $3, $4)",
            tenant,
            document,
            await blobs.put(f"text of {tenant}".encode()),
            acl,
        )
    await pool.execute(
        "UPDATE documents SET deleted = true, deleted_version = 3, status = 'deleted' WHERE document = 'd'"
    )
    async with running(settings) as client, client("acme-key") as acme, client("globex-key") as globex:
        first = (await acme.get("/v1/documents", params={"limit": 1})).json()
        rest = (await acme.get("/v1/documents", params={"cursor": first["next_cursor"], "status": "indexed"})).json()
        deleted = (await acme.get("/v1/documents", params={"status": "deleted", "collection": "default"})).json()
        stolen = (await globex.get("/v1/documents", params={"cursor": first["next_cursor"]})).json()
        contents = {each: await acme.get(f"/v1/documents/{each}/content") for each in "abcd"}
        described = (await acme.get("/v1/documents/a")).json()
    await pool.close()

    assert [each["id"] for each in first["documents"] + rest["documents"]] == ["a", "b"]
    assert [each["id"] for each in deleted["documents"]] == ["d"]
    assert stolen["documents"] == []
    assert {each: response.status_code for each, response in contents.items()} == {
        "a": 200,
        "b": 200,
        "c": 404,
        "d": 404,
    }
    assert contents["a"].text == "text of acme"
    assert (described["live_version"], described["latest_version"]) == (2, 2)
