"""Streams of what becomes of documents."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from httpx_sse import ServerSentEvent, aconnect_sse

from gateway.problems import Problem
from schemas.events import LifecycleChanged
from tests.gateway.factories import Gateway, document_row, gateway_in_memory
from tests.gateway.serving import served


@pytest.fixture
async def url(gateway: Gateway) -> AsyncIterator[str]:
    """Address of the gateway, for streams that do not end."""
    async with served(gateway.app, lifespan="off") as url:
        yield url


def changed(
    gateway: Gateway,
    document: str,
    status: str,
    *,
    tenant: str = "acme",
    partition: int = 0,
    generation: str | None = None,
) -> int:
    """Let a document reach a stage."""
    event = LifecycleChanged(
        tenant=tenant,
        document=document,
        version=2,
        status=status,
        stage="index",
        at_ms=1_700_000_000_000,
        generation=generation,
        n_chunks=4,
    )
    return gateway.replies.lifecycle.append(partition, f"{tenant}/{document}".encode(), msgspec.json.encode(event))


def known(gateway: Gateway, document: str, tenant: str = "acme", **changes: Any) -> None:
    gateway.documents.rows[tenant, document] = document_row(document, **changes)


@asynccontextmanager
async def listening(
    url: str, path: str, place: str | None = None, key: str = "acme-key"
) -> AsyncIterator[AsyncIterator[ServerSentEvent]]:
    headers = {"Authorization": f"Bearer {key}"} | ({"Last-Event-ID": place} if place else {})
    async with (
        asyncio.timeout(10),
        httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client,
        aconnect_sse(client, "GET", path) as source,
    ):
        assert source.response.status_code == 200
        yield source.aiter_sse()


async def test_a_document_is_told_as_it_stands_and_then_as_it_changes(gateway: Gateway, url: str) -> None:
    known(gateway, "manual/gates.md", status="accepted")
    known(gateway, "other.md")
    changed(gateway, "manual/gates.md", "accepted")

    async with listening(url, "/v1/documents/manual%2Fgates.md/events") as events:
        state = await anext(events)
        changed(gateway, "other.md", "indexed")
        changed(gateway, "manual/gates.md", "indexed", partition=3)
        change = await anext(events)

    assert (state.event, state.json()["status"], state.json()["id"]) == ("state", "accepted", "manual/gates.md")
    assert state.id == "0:1,1:0,2:0,3:0,4:0,5:0"
    assert change.event == "indexed"
    assert change.json() == {
        "id": "manual/gates.md",
        "status": "indexed",
        "stage": "index",
        "version": 2,
        "generation": None,
        "n_chunks": 4,
        "reason": None,
        "message": None,
        "at": "2023-11-14T22:13:20Z",
    }


async def test_all_documents_or_those_of_a_collection_are_followed(gateway: Gateway, url: str) -> None:
    known(gateway, "a", attributes={"collection": "manuals"})
    known(gateway, "b")
    async with (
        listening(url, "/v1/lifecycle/events") as all_events,
        listening(url, "/v1/lifecycle/events?collection=manuals") as manuals,
    ):
        assert [(await anext(each)).event for each in (all_events, manuals)] == ["begin", "begin"]
        changed(gateway, "b", "chunked")
        changed(gateway, "a", "indexed")
        assert [(await anext(all_events)).json()["id"] for _ in range(2)] == ["b", "a"]
        assert (await anext(manuals)).json()["id"] == "a"


async def test_what_becomes_of_a_document_in_a_candidate_is_not_told(gateway: Gateway, url: str) -> None:
    known(gateway, "heron")
    async with listening(url, "/v1/lifecycle/events") as events:
        assert (await anext(events)).event == "begin"
        changed(gateway, "heron", "failed", generation="g2")
        changed(gateway, "heron", "indexed", generation="g1")

        assert (await anext(events)).event == "indexed"


async def test_nobody_hears_of_documents_that_he_may_not_read(gateway: Gateway, url: str) -> None:
    known(gateway, "open")
    known(gateway, "closed", readable=False)
    known(gateway, "secret", tenant="globex")
    known(gateway, "open", tenant="globex")
    async with (
        listening(url, "/v1/lifecycle/events") as acme,
        listening(url, "/v1/lifecycle/events", key="globex-key") as globex,
    ):
        await anext(acme)
        await anext(globex)
        changed(gateway, "closed", "indexed")
        changed(gateway, "gone", "indexed")
        changed(gateway, "secret", "indexed", tenant="globex")
        # a record that lies about its key
        lie = LifecycleChanged(
            tenant="globex", document="open", version=1, status="failed", stage="chunk", at_ms=1, message="secret"
        )
        gateway.replies.lifecycle.append(0, b"acme/open", msgspec.json.encode(lie))
        changed(gateway, "open", "indexed")
        assert (await anext(acme)).json()["id"] == "open"
        assert (await anext(globex)).json()["id"] == "secret"


@pytest.mark.parametrize("path", ["/v1/documents/closed/events", "/v1/documents/none/events"])
async def test_a_document_that_may_not_be_read_is_as_missing_as_none(gateway: Gateway, path: str) -> None:
    known(gateway, "closed", readable=False)
    response = await gateway.acme.get(path)
    assert (response.status_code, response.json()["type"]) == (404, "urn:headrace:problem:no_document")


async def test_a_submission_is_followed_before_the_document_is_known(gateway: Gateway, url: str) -> None:
    async with listening(url, "/v1/documents/new/events?submission=3:11") as events:
        assert (await anext(events)).json()["status"] == "submitted"
        known(gateway, "new", status="accepted")
        changed(gateway, "new", "accepted")
        assert (await anext(events)).event == "accepted"


async def test_a_stream_goes_on_in_every_partition_on_any_gateway(gateway: Gateway, url: str, tmp_path: Path) -> None:
    known(gateway, "a")
    async with listening(url, "/v1/lifecycle/events") as events:
        begin = await anext(events)
        changed(gateway, "a", "accepted", partition=1)
        accepted = await anext(events)
    changed(gateway, "a", "chunked", partition=4)
    changed(gateway, "a", "embedded", partition=1)

    async with gateway_in_memory(tmp_path, beside=gateway) as other, served(other.app, lifespan="off") as elsewhere:
        heard = {}
        for place in (begin.id, accepted.id):
            async with listening(elsewhere, "/v1/lifecycle/events", place) as events:
                n = 4 if place == begin.id else 3
                heard[place] = {(await anext(events)).event for _ in range(n)}

    assert accepted.id == "0:0,1:1,2:0,3:0,4:0,5:0"
    assert heard[begin.id] == {"begin", "accepted", "chunked", "embedded"}
    assert heard[accepted.id] == {"begin", "chunked", "embedded"}


async def test_changes_that_are_gone_are_said_to_be(gateway: Gateway, url: str) -> None:
    known(gateway, "a")
    for _ in range(3):
        changed(gateway, "a", "accepted")
    gateway.replies.lifecycle.delete_before(0, 2)
    gateway.services.lifecycle._warm_records = 0

    async with listening(url, "/v1/lifecycle/events", "0:0") as events:
        assert [(await anext(events)).event for _ in range(3)] == ["begin", "reset", "accepted"]


async def test_where_postgres_is_away_the_stream_breaks_off_before_what_it_cannot_judge(
    gateway: Gateway, url: str
) -> None:
    known(gateway, "a")
    find = gateway.documents.find

    async def away(*_: object) -> None:
        raise Problem(503, "unavailable", "Postgres is away")

    async with listening(url, "/v1/lifecycle/events") as events:
        begin = await anext(events)
        object.__setattr__(gateway.documents, "find", away)
        changed(gateway, "a", "indexed")
        assert [event async for event in events] == []
    object.__setattr__(gateway.documents, "find", find)
    async with listening(url, "/v1/lifecycle/events", begin.id) as events:
        assert [(await anext(events)).event for _ in range(2)] == ["begin", "indexed"]


@pytest.mark.parametrize("place", ["17", "0:1,", "0:1;1:2", "a:1", "0:-1"])
async def test_a_malformed_place_is_refused_with_what_is_expected(gateway: Gateway, place: str) -> None:
    known(gateway, "a")
    for path in ("/v1/documents/a/events", "/v1/lifecycle/events"):
        response = await gateway.acme.get(path, headers={"Last-Event-ID": place})
        assert response.status_code == 422
        assert "'0:12,1:40'" in response.json()["detail"]


async def test_the_topic_is_read_only_while_somebody_listens(gateway: Gateway, url: str) -> None:
    known(gateway, "a")
    assert gateway.replies.lifecycle.opened == []
    async with listening(url, "/v1/lifecycle/events") as one, listening(url, "/v1/documents/a/events") as another:
        await anext(one)
        await anext(another)
    assert len(gateway.replies.lifecycle.opened) == 1


async def test_streams_of_documents_count_among_all_streams(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, streams_max=1) as gateway:
        known(gateway, "a")
        gateway.services.streams.take()
        for path in ("/v1/documents/a/events", "/v1/lifecycle/events"):
            assert (await gateway.acme.get(path)).status_code == 503
