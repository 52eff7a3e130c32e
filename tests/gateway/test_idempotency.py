"""A POST with an Idempotency-Key that is sent again."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec
import pytest

from schemas.events import DocumentSubmitted, QueryAsked
from schemas.topics import INGEST, QUERIES
from tests.gateway.factories import ANSWER, Gateway, gateway_in_memory, sources, sse, whole_answer

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


# --- questions ------------------------------------------------------------------------------------


async def question(
    client: httpx.AsyncClient, key: str = "k1", *, stream: bool = False, query: str = "When does it open?"
) -> httpx.Response:
    body = {"query": query, "stream": stream}
    return await client.post("/v1/query", json=body, headers={"Idempotency-Key": key})


def answer_all(gateway: Gateway) -> None:
    """Let a worker answer every question that is produced and not claimed yet."""

    async def respond(asked: QueryAsked) -> None:
        if gateway.questions.change(asked.query, {"pending"}, state="claimed", attempt=1):
            await gateway.replies.put(sources(asked), *whole_answer(asked))
            done = {"outcome": "done", "terminal_seq": 3, "answer": msgspec.to_builtins(ANSWER)}
            gateway.questions.change(asked.query, {"claimed"}, state="finished", published=True, **done)

    gateway.sender.on_question = respond


async def test_a_question_asked_again_is_the_same_question(gateway: Gateway) -> None:
    answer_all(gateway)

    whole, again = await question(gateway.acme), await question(gateway.acme)
    events = sse((await question(gateway.acme, stream=True)).text)

    assert (whole.status_code, again.status_code) == (200, 200)
    assert (again.json()["id"], again.json()["answer"]) == (whole.json()["id"], ANSWER.text)
    assert UUID(whole.json()["id"]).version == 5
    assert [name for name, _, _ in events] == ["accepted", "sources", "token", "token", "answer", "done"]
    assert events[0][1]["id"] == whole.json()["id"]
    assert len(gateway.sender.events(QueryAsked, QUERIES)) == 1


async def test_a_question_asked_many_times_at_once_is_one_and_all_get_its_answer(gateway: Gateway) -> None:
    answer_all(gateway)

    responses = await asyncio.gather(*(question(gateway.acme, stream=n % 2 == 0) for n in range(20)))

    assert {response.status_code for response in responses} == {200}
    assert all(ANSWER.text in response.text for response in responses)
    assert len(gateway.questions.rows) == 1
    assert len(gateway.sender.events(QueryAsked, QUERIES)) <= 2


async def test_a_question_that_got_lost_on_the_way_to_kafka_is_produced_again(gateway: Gateway) -> None:
    lost = asyncio.Event()

    async def lose(_: QueryAsked) -> None:
        lost.set()

    gateway.sender.on_question = lose
    asking = asyncio.create_task(question(gateway.acme))
    await lost.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    answer_all(gateway)

    response = await question(gateway.acme)

    assert response.json()["answer"] == ANSWER.text
    assert [row.id for row in gateway.questions.rows.values()] == [response.json()["id"]]


async def test_a_rejected_question_is_accepted_anew_under_its_id(gateway: Gateway) -> None:
    gateway.sender.away = True
    refused = await question(gateway.acme)
    [rejected] = gateway.questions.rows.values()
    gateway.sender.away = False
    answer_all(gateway)

    answered = await question(gateway.acme)

    assert (refused.status_code, rejected.state) == (503, "rejected")
    assert (answered.status_code, answered.json()["id"]) == (200, rejected.id)


async def test_a_question_that_failed_fails_again(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, query_timeout_ms=150) as gateway:
        first, second = await question(gateway.acme), await question(gateway.acme)

    assert (first.status_code, second.status_code) == (504, 504)
    assert first.json()["id"] == second.json()["id"]


async def test_another_question_or_route_under_the_same_key_is_refused(gateway: Gateway) -> None:
    answer_all(gateway)
    await question(gateway.acme)

    other = await question(gateway.acme, query="And then?")
    documents = await ingest(gateway.acme, "k1")
    foreign = await question(gateway.globex)

    kind = "urn:headrace:problem:idempotency_key_reused"
    assert [(each.status_code, each.json()["type"]) for each in (other, documents)] == [(422, kind)] * 2
    assert foreign.status_code == 200
    assert len(gateway.questions.rows) == 2
