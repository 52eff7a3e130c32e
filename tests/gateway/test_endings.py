"""How the gateway publishes the end of a question that it, or a worker that died since, has ended."""

import logging

import msgspec
import pytest

from gateway import endings
from schemas.events import Hit, QueryFinished, Reply
from schemas.topics import ANSWERS, RESULTS
from tests.gateway.factories import ANSWER, Gateway, ask

HIT = Hit(document="gates.md", version=1, chunk="c1", score=0.8)


async def test_a_finished_question_ends_with_answer_done_and_result(gateway: Gateway) -> None:
    row = await ask(
        gateway,
        state="finished",
        attempt=2,
        outcome="done",
        terminal_seq=4,
        answer=msgspec.to_builtins(ANSWER),
        hits=[msgspec.to_builtins(HIT)],
        retrieve_ms=3.5,
        finished_ms=1_250,
    )

    await endings.conclude(gateway.services, row)

    answer, done = gateway.sender.events(Reply, ANSWERS)
    [result] = gateway.sender.events(QueryFinished, RESULTS)
    assert answer == Reply(query=row.id, tenant="acme", type="answer", attempt=2, seq=3, answer=ANSWER)
    assert done == Reply(query=row.id, tenant="acme", type="done", attempt=2, seq=4, elapsed_ms=250.0)
    assert gateway.sender.partitions == [2, 2, None]
    assert {key for _, key, _, _ in gateway.sender.sent} == {row.id.encode()}
    assert result == QueryFinished(
        query=row.id,
        tenant="acme",
        text="When does it open?",
        outcome="done",
        attempt=2,
        generation="g1",
        reply_partition=2,
        asked_ms=1_000,
        finished_ms=1_250,
        user="ada",
        groups=["staff"],
        hits=[HIT],
        answer=ANSWER,
        retrieve_ms=3.5,
    )
    assert gateway.questions.rows["acme", row.id].published is True


async def test_a_cancelled_question_ends_with_the_text_so_far(gateway: Gateway) -> None:
    row = await ask(gateway, attempt=1)
    cancelled = await gateway.questions.finish_cancelled(row.id, attempt=1, answer=ANSWER, terminal_seq=2)
    assert cancelled is not None

    await endings.conclude(gateway.services, cancelled)

    [reply] = gateway.sender.events(Reply, ANSWERS)
    [result] = gateway.sender.events(QueryFinished, RESULTS)
    assert (reply.type, reply.attempt, reply.seq, reply.answer) == ("cancelled", 1, 2, ANSWER)
    assert (result.outcome, result.answer, result.error) == ("cancelled", ANSWER, None)


async def test_an_expired_question_ends_with_an_error_once(gateway: Gateway) -> None:
    row = await ask(gateway)

    ended = [await endings.expire(gateway.services, row.id) for _ in range(2)]

    [reply] = gateway.sender.events(Reply, ANSWERS)
    [result] = gateway.sender.events(QueryFinished, RESULTS)
    assert [one is not None for one in ended] == [True, False]
    assert (reply.type, reply.error) == ("error", "deadline_exceeded")
    assert (result.outcome, result.error, result.answer) == ("error", "deadline_exceeded", None)


async def test_what_kafka_does_not_take_is_left_to_the_sweeper(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    row = await ask(gateway)
    gateway.sender.away = True

    with caplog.at_level(logging.WARNING):
        ended = await endings.expire(gateway.services, row.id)

    assert ended is not None
    assert gateway.questions.rows["acme", row.id].published is False
    assert "is not published yet" in caplog.text
