"""A POST with an Idempotency-Key that is sent again."""

import asyncio
from typing import Any
from uuid import UUID

import httpx
import pytest

from schemas.events import DocumentSubmitted
from schemas.topics import INGEST
from tests.gateway.factories import Gateway

TWO = {"documents": [{"text": "One."}, {"id": "named.md", "text": "Two."}]}


async def ingest(client: httpx.AsyncClient, key: str, body: dict[str, Any] | None = None) -> httpx.Response:
    return await client.post("/v1/ingest", json=body or TWO, headers={"Idempotency-Key": key})


async def test_documents_sent_again_get_the_same_receipts_and_nothing_is_produced_twice(gateway: Gateway) -> None:
    first, second = await ingest(gateway.acme, "k1"), await ingest(gateway.acme, "k1")

    made, named = first.json()["documents"]
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json() == first.json()
    assert UUID(made["id"]).version == 5
    assert named["id"] == "named.md"
    assert [event.text for event in gateway.sender.events(DocumentSubmitted, INGEST)] == ["One.", "Two."]


async def test_documents_sent_many_times_at_once_are_produced_once(gateway: Gateway) -> None:
    responses = await asyncio.gather(*(ingest(gateway.acme, "k1") for _ in range(10)))

    assert {response.text for response in responses} == {responses[0].text}
    assert len(gateway.sender.sent) == 2


async def test_what_kafka_took_half_of_is_repeated_with_the_same_ids(gateway: Gateway) -> None:
    gateway.sender.failing = {b"acme/named.md"}
    half = await ingest(gateway.acme, "k1")
    gateway.sender.failing = set()
    whole = await ingest(gateway.acme, "k1")

    assert (half.status_code, half.json()["failed"]) == (503, ["named.md"])
    assert whole.status_code == 202
    assert whole.json()["documents"][0]["id"] == half.json()["accepted"][0]["id"]


async def test_another_body_under_the_same_key_is_refused(gateway: Gateway) -> None:
    await ingest(gateway.acme, "k1")

    response = await ingest(gateway.acme, "k1", {"documents": [{"text": "Three."}]})

    assert response.status_code == 422
    assert response.json()["type"] == "urn:headrace:problem:idempotency_key_reused"
    assert "'k1' was used for another POST /v1/ingest" in response.json()["detail"]
    assert len(gateway.sender.sent) == 2


async def test_the_same_body_in_another_spelling_is_the_same(gateway: Gateway) -> None:
    await ingest(gateway.acme, "k1", {"documents": [{"id": "a", "text": "A."}]})

    spelled = {"documents": [{"metadata": {}, "collection": "default", "text": "A.", "id": "a"}]}
    response = await ingest(gateway.acme, "k1", spelled)

    assert response.status_code == 202
    assert len(gateway.sender.sent) == 1


async def test_keys_of_two_tenants_are_two_keys(gateway: Gateway) -> None:
    acme, globex = await ingest(gateway.acme, "k1"), await ingest(gateway.globex, "k1")

    ids = {response.json()["documents"][0]["id"] for response in (acme, globex)}
    assert len(ids) == 2
    assert {key.partition(b"/")[0] for _, key, _, _ in gateway.sender.sent if key} == {b"acme", b"globex"}


async def test_requests_without_a_key_are_all_new(gateway: Gateway) -> None:
    responses = [await gateway.acme.post("/v1/ingest", json={"documents": [{"text": "One."}]}) for _ in range(2)]

    ids = {response.json()["documents"][0]["id"] for response in responses}
    assert len(ids) == 2
    assert {UUID(id).version for id in ids} == {7}


@pytest.mark.parametrize("key", ["", "k" * 256, "caf\xe9", "a\tb"])
async def test_a_malformed_key_is_refused(gateway: Gateway, key: str) -> None:
    response = await gateway.acme.post("/v1/ingest", json=TWO, headers={b"Idempotency-Key": key.encode("latin-1")})

    assert response.status_code == 422
    assert "expected 1 to 255 printable ASCII characters" in response.json()["detail"]
    assert gateway.sender.sent == []


async def test_a_key_of_255_characters_will_do(gateway: Gateway) -> None:
    assert (await ingest(gateway.acme, "~" * 255)).status_code == 202
