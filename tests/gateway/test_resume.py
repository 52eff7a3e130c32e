"""Answer streams that are followed by id, resumed, scored, cancelled or gone from the log."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import to_builtins

from gateway.ports import QuestionRow
from gateway.problems import Problem
from schemas.events import Answer, QueryAsked, Reply, Scores
from tests.gateway.factories import ANSWER, Gateway, ask, gateway_in_memory, reply, sources, sse, whole_answer

Events = list[tuple[str, dict[str, Any], str | None]]
WHOLE = ["accepted", "sources", "token", "token", "answer", "done"]


@pytest.fixture
async def other(gateway: Gateway, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Another gateway of the same stack, whose own questions use another reply partition."""
    async with gateway_in_memory(tmp_path, beside=gateway, partition=1) as running:
        yield running


async def answered(gateway: Gateway, **changes: Any) -> QuestionRow:
    """A question of acme that was answered: its row and its replies, at 2:41 to 2:45."""
    done = {"state": "finished", "outcome": "done", "attempt": 1, "answer": to_builtins(ANSWER), "published": True}
    row = await ask(gateway, **(done | changes))
    await gateway.replies.put(sources(row.asked), *whole_answer(row.asked))
    return row


async def follow(client: httpx.AsyncClient, query: str, place: str | None = None) -> Events:
    headers = {"Last-Event-ID": place} if place else {}
    response = await client.get(f"/v1/queries/{query}/events", headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return sse(response.text)


def names(events: Events) -> list[str]:
    return [name for name, _, _ in events]


async def test_a_question_is_followed_from_its_beginning_by_any_number_of_readers_on_any_gateway(
    gateway: Gateway, other: Gateway
) -> None:
    row = await ask(gateway)
    reading = [asyncio.create_task(follow(each.acme, row.id)) for each in (gateway, gateway, other)]
    for each in (sources(row.asked), *whole_answer(row.asked)):
        await asyncio.sleep(0)
        await gateway.replies.put(each)

    for events in await asyncio.gather(*reading):
        assert names(events) == WHOLE
        assert [place for _, _, place in events] == [None, "2:41", "2:42", "2:43", "2:44", "2:45"]


async def test_the_first_event_says_where_the_stream_can_be_resumed(gateway: Gateway) -> None:
    row = await answered(gateway)
    accepted = (await follow(gateway.acme, row.id))[0][1]
    assert accepted == {"id": row.id, "url": f"/v1/queries/{row.id}", "events": f"/v1/queries/{row.id}/events"}


@pytest.mark.parametrize("n_seen", [1, 2, 3, 4])
async def test_a_resumed_stream_goes_on_with_exactly_what_follows(
    gateway: Gateway, other: Gateway, n_seen: int
) -> None:
    row = await answered(gateway)

    events = await follow(other.acme, row.id, f"2:{40 + n_seen}")

    assert names(events) == WHOLE[n_seen + 1 :]
    assert [place for _, _, place in events] == [f"2:{offset}" for offset in range(41 + n_seen, 46)]


async def test_a_reader_that_has_the_end_is_told_not_to_come_again(gateway: Gateway) -> None:
    row = await answered(gateway)
    response = await gateway.acme.get(f"/v1/queries/{row.id}/events", headers={"Last-Event-ID": "2:45"})
    assert (response.status_code, response.text) == (204, "")


@pytest.mark.parametrize("place", ["2:46", "2:40", "2:99999", "1:42", "5:0"])
async def test_a_place_that_is_none_of_this_question_begins_the_stream_again(gateway: Gateway, place: str) -> None:
    row = await answered(gateway)
    another = await ask(gateway)
    await gateway.replies.put(sources(another.asked))

    events = await follow(gateway.acme, row.id, place)

    assert names(events) == ["reset", *WHOLE[1:]]
    assert events[0][2] is None


@pytest.mark.parametrize("place", ["17", "2:", "a:b", "2:41x", "-1:4", "2:1:1"])
async def test_a_malformed_place_is_refused_with_what_is_expected(gateway: Gateway, place: str) -> None:
    row = await answered(gateway)
    response = await gateway.acme.get(f"/v1/queries/{row.id}/events", headers={"Last-Event-ID": place})
    assert response.status_code == 422
    assert "Last-Event-ID" in response.json()["detail"] and "'2:1041'" in response.json()["detail"]


async def test_another_tenants_question_is_as_missing_as_none(gateway: Gateway) -> None:
    row = await answered(gateway)
    missing = "0199f0a4-7c1e-7cc0-8a55-0d8f9c3c7b11"

    foreign = await gateway.globex.get(f"/v1/queries/{row.id}/events")
    none = await gateway.globex.get(f"/v1/queries/{missing}/events")

    assert (foreign.status_code, none.status_code) == (404, 404)
    assert foreign.json()["detail"].replace(row.id, "") == none.json()["detail"].replace(missing, "")
    assert set(foreign.json()) == set(none.json())


async def test_a_reset_carries_no_id_so_that_a_reader_that_breaks_off_there_loses_no_token(gateway: Gateway) -> None:
    row = await ask(gateway)
    first, second = whole_answer(row.asked, 1), whole_answer(row.asked, 2)
    await gateway.replies.put(sources(row.asked), first[0], *second)

    events = await follow(gateway.acme, row.id)
    again = await follow(gateway.acme, row.id, "2:42")

    assert names(events) == ["accepted", "sources", "token", "reset", "token", "token", "answer", "done"]
    assert events[3] == ("reset", {"attempt": 2}, None)
    assert names(again) == ["reset", "token", "token", "answer", "done"]


async def test_what_is_out_of_the_log_is_told_from_the_row(gateway: Gateway) -> None:
    row = await answered(gateway)
    await gateway.replies.put(*(reply(row.asked, "score", 1, -1) for _ in range(2)))
    gateway.replies.log.delete_before(2, 46)
    await forget(gateway)

    from_the_beginning = await follow(gateway.acme, row.id)
    from_a_place = await follow(gateway.acme, row.id, "2:42")

    assert names(from_the_beginning) == ["accepted", "answer", "done"]
    assert names(from_a_place) == ["reset", "answer", "done"]
    assert from_a_place[1][1]["answer"] == ANSWER.text
    assert {place for _, _, place in from_a_place} == {None}


async def forget(gateway: Gateway) -> None:
    """Let the gateway read the partition as if it had just begun to."""
    replies = gateway.services.replies
    tail = replies.log.tail(2)
    assert tail is not None
    await tail.until_current()
    tail.memory.start(gateway.replies.log.end(2))


async def test_an_end_that_is_out_of_the_log_is_told_as_it_was(gateway: Gateway) -> None:
    error = {"reason": "deadline_exceeded", "message": "too late"}
    failed = await ask(gateway, state="finished", outcome="error", error=error, published=True)
    partial = to_builtins(Answer(text="It opens "))
    cancelled = await ask(gateway, state="finished", outcome="cancelled", answer=partial, published=True)

    assert names(await follow(gateway.acme, failed.id)) == ["accepted", "error"]
    [_, (name, data, _)] = await follow(gateway.acme, cancelled.id)
    assert (name, data) == ("cancelled", {"id": cancelled.id, "text": "It opens "})


async def test_a_topic_that_was_made_anew_holds_nothing_of_an_older_question(gateway: Gateway) -> None:
    row = await answered(gateway, reply_offset=9_000)
    gateway.replies.log.delete_before(2, 46)
    await forget(gateway)
    assert names(await follow(gateway.acme, row.id, "2:9001")) == ["reset", "answer", "done"]


async def test_a_question_that_was_refused_has_no_events(gateway: Gateway) -> None:
    row = await ask(gateway, state="rejected")
    response = await gateway.acme.get(f"/v1/queries/{row.id}/events")
    assert response.status_code == 409
    assert "ask again" in response.json()["detail"]


async def test_a_stream_breaks_off_without_an_end_where_nobody_knows_how_the_question_has_ended(
    gateway: Gateway,
) -> None:
    row = await ask(gateway, left_ms=50)

    async def away(query: str) -> None:
        raise Problem(503, "unavailable", "Postgres is away")

    object.__setattr__(gateway.questions, "expire", away)

    assert names(await follow(gateway.acme, row.id)) == ["accepted"]


async def test_more_streams_than_there_may_be_are_asked_to_come_later(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, streams_max=1) as gateway:
        row, stream = await ask(gateway), {"query": "Q?", "stream": True}
        reading = asyncio.create_task(follow(gateway.acme, row.id))
        while gateway.services.streams.n_open == 0:  # noqa: ASYNC110
            await asyncio.sleep(0)

        refused = [
            await gateway.acme.get(f"/v1/queries/{row.id}/events"),
            await gateway.acme.post("/v1/query", json=stream),
        ]
        await gateway.replies.put(sources(row.asked), *whole_answer(row.asked))
        await reading

        assert [each.status_code for each in refused] == [503, 503]
        assert refused[0].headers["retry-after"] == "2"
        assert "HEADRACE_STREAMS_MAX" in refused[0].json()["detail"]
        assert len(gateway.questions.rows) == 1
        assert names(await follow(gateway.acme, row.id)) == WHOLE


# --- scores ---------------------------------------------------------------------------------------

SCORES = Scores(faithfulness=0.9, relevance=0.7, n_sentences=2, n_supported=2, scorer="test@1")


def scored(asked: QueryAsked) -> Reply:
    return reply(asked, "score", 1, -1, scores=SCORES)


async def test_the_end_is_held_back_for_scores_that_come_in_time(gateway: Gateway) -> None:
    row = await ask(gateway)
    reading = asyncio.create_task(follow(gateway.acme, row.id))
    await gateway.replies.put(sources(row.asked), *whole_answer(row.asked), scored(row.asked))

    events = await reading

    assert names(events) == [*WHOLE[:-1], "score", "done"]
    assert events[-2][1]["faithfulness"] == 0.9
    assert [place for _, _, place in events[-2:]] == [None, "2:45"]


async def test_scores_before_the_end_are_told_at_once_and_never_twice(gateway: Gateway) -> None:
    row = await ask(gateway)
    *before, done = whole_answer(row.asked)
    await gateway.replies.put(sources(row.asked), *before, scored(row.asked), scored(row.asked), done)
    assert names(await follow(gateway.acme, row.id)) == [*WHOLE[:-1], "score", "done"]


async def test_scores_that_come_before_the_answer_are_told_after_it(gateway: Gateway) -> None:
    row = await ask(gateway)
    await gateway.replies.put(sources(row.asked), scored(row.asked), *whole_answer(row.asked))
    assert names(await follow(gateway.acme, row.id)) == [*WHOLE[:-1], "score", "done"]


async def test_the_end_waits_no_longer_than_it_may(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, score_wait_ms=20) as gateway:
        row = await ask(gateway)
        await gateway.replies.put(sources(row.asked), *whole_answer(row.asked))
        assert names(await follow(gateway.acme, row.id)) == WHOLE


async def test_scores_are_not_waited_for_where_none_will_come(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, score_wait_ms=10_000) as gateway:
        abstained = await ask(gateway)
        await gateway.replies.put(
            reply(abstained.asked, "answer", 1, 0, answer=Answer(text="The documents do not say.", abstained=True)),
            reply(abstained.asked, "done", 1, 1),
        )
        failed = await ask(gateway)
        await gateway.replies.put(reply(failed.asked, "error", 0, -1, error="failed", message="it failed"))

        async with asyncio.timeout(5):
            assert names(await follow(gateway.acme, abstained.id))[-1] == "done"
            assert names(await follow(gateway.acme, failed.id))[-1] == "error"


async def test_one_json_does_not_wait_for_scores(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, score_wait_ms=10_000) as gateway:

        async def respond(asked: QueryAsked) -> None:
            await gateway.replies.put(sources(asked), *whole_answer(asked))

        gateway.sender.on_question = respond
        async with asyncio.timeout(5):
            assert (await gateway.acme.post("/v1/query", json={"query": "Q?"})).status_code == 200


async def test_a_stream_that_is_read_later_has_the_scores_of_the_row(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, score_wait_ms=10_000) as gateway:
        row = await answered(gateway, scores=to_builtins(SCORES))
        async with asyncio.timeout(5):
            assert names(await follow(gateway.acme, row.id)) == [*WHOLE[:-1], "score", "done"]


async def test_a_question_that_ended_long_ago_is_not_held_back(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, score_wait_ms=10_000) as gateway:
        row = await answered(gateway, left_ms=5_000)
        async with asyncio.timeout(5):
            assert names(await follow(gateway.acme, row.id)) == WHOLE


# --- cancelled ------------------------------------------------------------------------------------


async def test_a_cancelled_question_ends_with_the_text_so_far(gateway: Gateway) -> None:
    row = await ask(gateway)
    first, *_ = whole_answer(row.asked)
    cancelled = reply(row.asked, "cancelled", 1, 7, answer=Answer(text="It opens ", provider="secret-model"))
    await gateway.replies.put(sources(row.asked), first, cancelled)

    events = await follow(gateway.acme, row.id)

    assert names(events) == ["accepted", "sources", "token", "cancelled"]
    assert events[-1] == ("cancelled", {"id": row.id, "text": "It opens "}, "2:43")


async def test_one_json_of_a_cancelled_question_is_a_conflict_with_the_text_so_far(gateway: Gateway) -> None:
    async def respond(asked: QueryAsked) -> None:
        await gateway.replies.put(reply(asked, "cancelled", 1, 0, answer=Answer(text="It opens ")))

    gateway.sender.on_question = respond

    response = await gateway.acme.post("/v1/query", json={"query": "Q?"})

    problem = response.json()
    assert (response.status_code, problem["type"]) == (409, "urn:headrace:problem:cancelled")
    assert problem["text"] == "It opens "
