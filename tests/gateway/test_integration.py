"""The gateway on a real Kafka and a real Postgres; a small responder plays the workers."""

import asyncio

import pytest

from backbone.kafka import Admin, PartitionReader, Received
from backbone.objects import FolderBlobs
from backbone.postgres import open_pool
from backbone.settings import GatewaySettings
from schemas.codec import Record, decode, headers_of
from schemas.events import DocumentSubmitted
from schemas.topics import INGEST
from tests.gateway.factories import ANSWER, sse
from tests.gateway.real import responder, running

pytestmark = pytest.mark.integration


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
