"""Questions: the order of events, repeats, attempts, deadlines, and the stored row."""

import asyncio
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from schemas.events import QueryAsked, Reply
from tests.gateway.factories import (
    ANSWER,
    EVIDENCE,
    Gateway,
    gateway_in_memory,
    reply,
    sources,
    sse,
    whole_answer,
)


def answering(gateway: Gateway, *replies: Any) -> None:
    """Let a responder answer the next question with these replies (functions of the question)."""

    async def respond(asked: QueryAsked) -> None:
        made: list[Reply] = []
        for each in replies:
            given = each(asked)
            made += given if isinstance(given, list) else [given]
        await gateway.replies.put(*made)

    gateway.sender.on_question = respond


async def stream(gateway: Gateway) -> list[tuple[str, dict[str, Any], str | None]]:
    response = await gateway.acme.post("/v1/query", json={"query": "When does it open?", "stream": True})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["cache-control"] == "no-store"
    return sse(response.text)


async def test_events_come_in_order_with_their_place_in_the_log(gateway: Gateway) -> None:
    answering(gateway, sources, whole_answer)

    events = await stream(gateway)

    assert [(name, place) for name, _, place in events] == [
        ("accepted", None),
        ("sources", "2:41"),
        ("token", "2:42"),
        ("token", "2:43"),
        ("answer", "2:44"),
        ("done", "2:45"),
    ]
    assert events[0][1]["url"] == f"/v1/queries/{events[0][1]['id']}"
    assert events[1][1]["sources"][0]["document_id"] == "gates.md"
    assert "".join(data["text"] for name, data, _ in events if name == "token") == ANSWER.text
    assert events[4][1]["citations"][0]["document_id"] == "gates.md"


async def test_repeats_are_left_out(gateway: Gateway) -> None:
    def twice(asked: QueryAsked) -> list[Reply]:
        first = whole_answer(asked)
        return [sources(asked), sources(asked), first[0], first[0], first[1], first[0], *first[1:]]

    answering(gateway, twice)

    assert [name for name, _, _ in await stream(gateway)] == ["accepted", "sources", "token", "token", "answer", "done"]


async def test_a_later_attempt_resets_and_the_earlier_one_is_silent(gateway: Gateway) -> None:
    def taken_over(asked: QueryAsked) -> list[Reply]:
        first, second = whole_answer(asked, 1), whole_answer(asked, 2)
        return [sources(asked), first[0], second[0], first[1], second[1], second[2], second[3]]

    answering(gateway, taken_over)

    events = await stream(gateway)

    assert [name for name, _, _ in events] == [
        "accepted",
        "sources",
        "token",
        "reset",
        "token",
        "token",
        "answer",
        "done",
    ]
    assert events[3][1] == {"attempt": 2}


async def test_a_reply_of_another_tenant_is_never_shown(gateway: Gateway) -> None:
    answering(
        gateway, lambda asked: reply(asked, "token", 1, 0, tenant="globex", token="secret"), sources, whole_answer
    )

    events = await stream(gateway)

    assert "secret" not in str(events)
    assert events[-1][0] == "done"


async def test_a_failure_behind_ends_the_stream_with_its_reason(gateway: Gateway) -> None:
    answering(
        gateway,
        sources,
        lambda asked: whole_answer(asked)[0],
        lambda asked: reply(asked, "error", 0, 1, error="model_refused", message="the model refuses"),
    )

    events = await stream(gateway)

    assert [name for name, _, _ in events] == ["accepted", "sources", "token", "error"]
    assert events[-1][1]["type"] == "urn:headrace:problem:model_refused"
    assert events[-1][1]["detail"] == "the model refuses"


async def test_a_question_without_an_answer_ends_at_its_deadline(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, query_timeout_ms=150) as gateway:
        events = await stream(gateway)
        whole = await gateway.acme.post("/v1/query", json={"query": "And now?"})
        stored = await gateway.acme.get(events[0][1]["url"])

    assert [name for name, _, _ in events] == ["accepted", "error"]
    assert events[1][1]["type"] == "urn:headrace:problem:deadline_exceeded"
    assert (whole.status_code, whole.headers["content-type"]) == (504, "application/problem+json")
    assert stored.json()["error"]["reason"] == "deadline_exceeded"


async def test_an_answer_stored_just_before_the_deadline_is_delivered(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, query_timeout_ms=150) as gateway:

        async def finish_silently(asked: QueryAsked) -> None:
            gateway.questions.change(
                asked.query, {"pending"}, state="finished", outcome="done", answer=to_builtins(ANSWER)
            )

        gateway.sender.on_question = finish_silently
        events = await stream(gateway)

    assert [name for name, _, _ in events] == ["accepted", "answer", "done"]
    assert events[1][1]["answer"] == ANSWER.text


async def test_a_gap_is_filled_from_the_stored_answer(gateway: Gateway) -> None:
    async def respond(asked: QueryAsked) -> None:
        gateway.questions.change(asked.query, {"pending"}, state="finished", outcome="done", answer=to_builtins(ANSWER))
        first = whole_answer(asked)
        await gateway.replies.put(sources(asked), first[0], first[3])

    gateway.sender.on_question = respond

    events = await stream(gateway)

    assert [name for name, _, _ in events] == [
        "accepted",
        "sources",
        "token",
        "reset",
        "answer",
        "done",
    ]


async def test_one_json_holds_answer_citations_usage_and_latency(gateway: Gateway) -> None:
    answering(gateway, sources, whole_answer)

    response = await gateway.acme.post("/v1/query", json={"query": "When does it open?", "user_id": "ada"})

    body = response.json()
    assert response.status_code == 200
    assert set(body) == {"id", "answer", "citations", "usage", "abstained", "provider", "prompt", "latency_ms"}
    assert body["answer"] == ANSWER.text
    assert body["usage"] == {"prompt_tokens": 0, "completion_tokens": 0, "model": "extractive", "estimated": False}


async def test_the_question_says_what_the_caller_may_and_wants_to_see(gateway: Gateway) -> None:
    answering(gateway, sources, whole_answer)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

    body = {"query": "Q?", "top_k": 3, "filters": {"year": [2025, 2026], "lang": "en"}, "collection": "manuals"}
    await gateway.acme.post("/v1/query", json=body, headers={"traceparent": trace})

    [asked] = gateway.sender.events(QueryAsked)
    assert (asked.tenant, asked.kind, asked.top_k, asked.reply_partition) == ("acme", "answer", 3, 2)
    assert asked.filters.groups == ["staff"]
    assert asked.filters.metadata == {"year": [2025, 2026], "lang": ["en"]}
    assert asked.filters.collection == "manuals"
    assert gateway.sender.sent[0][3]["traceparent"] == trace.encode()


async def test_operators_travel_as_a_condition_and_values_as_before(gateway: Gateway) -> None:
    answering(gateway, sources, whole_answer)
    either = [{"final": True}, {"$not": {"team": ["ops"]}}]

    filters = {"lang": ["en"], "year": {"$gte": 2024}, "$or": either}
    await gateway.acme.post("/v1/query", json={"query": "Q?", "filters": filters})

    [asked] = gateway.sender.events(QueryAsked)
    assert asked.filters.metadata == {"lang": ["en"]}
    assert asked.filters.where == {"year": {"$gte": 2024}, "$or": either}


async def test_a_question_that_kafka_does_not_take_is_rejected(gateway: Gateway) -> None:
    gateway.sender.away = True

    response = await gateway.acme.post("/v1/query", json={"query": "Q?"})

    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert [row.state for row in gateway.questions.rows.values()] == ["rejected"]


async def test_a_client_that_goes_away_does_not_stop_the_answer(gateway: Gateway) -> None:
    sent = asyncio.Event()

    async def note(_: QueryAsked) -> None:
        sent.set()

    gateway.sender.on_question = note
    asking = asyncio.create_task(gateway.acme.post("/v1/query", json={"query": "Q?", "stream": True}))
    await sent.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    assert [row.state for row in gateway.questions.rows.values()] == ["pending"]


async def test_a_stored_question_is_shown_to_its_tenant_alone(gateway: Gateway) -> None:
    answering(gateway, sources, whole_answer)
    asked = (await gateway.acme.post("/v1/query", json={"query": "Q?"})).json()
    gateway.questions.change(asked["id"], {"pending"}, state="finished", outcome="done", answer=to_builtins(ANSWER))

    own = await gateway.acme.get(f"/v1/queries/{asked['id']}")
    foreign = await gateway.globex.get(f"/v1/queries/{asked['id']}")
    malformed = await gateway.acme.get("/v1/queries/17")

    assert (own.json()["state"], own.json()["answer"], own.json()["latency_ms"]) == ("finished", ANSWER.text, 7.0)
    assert foreign.status_code == 404
    assert malformed.status_code == 422


async def test_a_search_returns_hits_and_has_no_row(gateway: Gateway) -> None:
    answering(gateway, lambda asked: reply(asked, "hits", 0, 0, evidence=[EVIDENCE]))

    response = await gateway.acme.post("/v1/search", json={"query": "gate", "top_k": 2, "rankers": ["lexical"]})

    [hit] = response.json()["hits"]
    assert (hit["document_id"], hit["chunk_id"], hit["score"], hit["scores"]) == ("gates.md", "c1", 0.8, {"dense": 0.7})
    [asked] = gateway.sender.events(QueryAsked)
    assert (asked.kind, asked.rankers) == ("search", ["lexical"])
    assert gateway.questions.rows == {}


async def test_a_search_that_nobody_answers_runs_out_of_time(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, query_timeout_ms=100) as gateway:
        assert (await gateway.acme.post("/v1/search", json={"query": "gate"})).status_code == 504
