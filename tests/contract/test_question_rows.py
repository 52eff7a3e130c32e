"""What the gateway's `QuestionRows` and `SweptRows` do, which share one table."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from gateway.ports import QuestionRow, QuestionRows, SweptRows
from gateway.questions import DEADLINE_EXCEEDED, PostgresQuestionRows
from gateway.swept_rows import PostgresSweptRows
from schemas.events import Answer, FeedbackGiven, Filters, QueryAsked
from schemas.ids import new_query_id
from tests.doubles.gateway import MemoryQuestionRows, MemorySweptRows

ANSWER = Answer(text="Yes [1].")
FEEDBACK = FeedbackGiven(query="q", tenant="acme", rating="up", given_ms=1_000, comment="good")


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The ports, and what workers and time do to a row, each given a question's id."""

    questions: QuestionRows
    swept: SweptRows
    claim: Callable[[str], Awaitable[None]]
    finish: Callable[[str], Awaitable[None]]
    pass_deadline: Callable[[str], Awaitable[None]]
    lapse: Callable[[str], Awaitable[None]]
    let_wait: Callable[[str], Awaitable[None]]
    let_lie: Callable[[str], Awaitable[None]]


def _double() -> Rows:
    questions = MemoryQuestionRows()
    swept = MemorySweptRows(questions=questions)

    def doing(change: Callable[[str], object]) -> Callable[[str], Awaitable[None]]:
        async def do(query: str) -> None:
            change(query)

        return do

    done = {"outcome": "done", "answer": msgspec.to_builtins(ANSWER), "terminal_seq": 3}
    return Rows(
        questions=questions,
        swept=swept,
        claim=doing(lambda query: questions.change(query, {"pending"}, state="claimed", attempt=1)),
        finish=doing(lambda query: questions.change(query, {"claimed"}, state="finished", **done)),
        pass_deadline=doing(lambda query: questions.change(query, {"pending", "claimed"}, left_ms=-1)),
        lapse=doing(swept.lapsed.add),
        let_wait=doing(swept.unclaimed.add),
        let_lie=doing(swept.ended.add),
    )


def _real(pool: Any) -> Rows:
    def doing(change: str, *values: Any) -> Callable[[str], Awaitable[None]]:
        async def do(query: str) -> None:
            await pool.execute(f"UPDATE queries SET {change} WHERE id = $1", query, *values)

        return do

    return Rows(
        questions=PostgresQuestionRows(pool=pool, alias="live"),
        swept=PostgresSweptRows(pool=pool, republish_after_s=2.0),
        claim=doing("state = 'claimed', attempt = 1, claimed_by = 'w1', lease_until = now() + interval '10 s'"),
        finish=doing(
            "state = 'finished', outcome = 'done', answer = $2, terminal_seq = 3, finished_at = now()",
            msgspec.to_builtins(ANSWER),
        ),
        pass_deadline=doing("deadline = now() - interval '1 ms'"),
        lapse=doing("lease_until = now() - interval '1 ms'"),
        let_wait=doing("requeued_at = now() - interval '11 s'"),
        let_lie=doing("finished_at = now() - interval '3 s'"),
    )


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def rows(request: pytest.FixtureRequest) -> Rows:
    return _double() if request.param == "double" else _real(request.getfixturevalue("pool"))


def question(**changes: Any) -> QueryAsked:
    values: dict[str, Any] = {
        "query": new_query_id(),
        "tenant": "acme",
        "text": "When?",
        "kind": "answer",
        "top_k": 8,
        "reply_partition": 2,
        "deadline_ms": 31_000,
        "asked_ms": 1_000,
        "generation": "g1",
        "filters": Filters(groups=["staff"]),
        "user": "ada",
    }
    return QueryAsked(**(values | changes))


async def ask(rows: Rows, *steps: Callable[[str], Awaitable[object]], **changes: Any) -> str:
    """Insert a question and let things happen to it."""
    asked = question(**changes)
    await rows.questions.insert(asked, reply_offset=40)
    for step in steps:
        await step(asked.query)
    return asked.query


async def find(rows: Rows, query: str) -> QuestionRow:
    row = await rows.questions.find("acme", query)
    assert row is not None
    return row


# --- one question ---------------------------------------------------------------------------------


async def test_an_accepted_question_is_found_whole_by_its_tenant_alone(rows: Rows) -> None:
    asked = question()

    inserted = await rows.questions.insert(asked, reply_offset=40)
    row = await find(rows, asked.query)

    assert inserted is not None
    assert (inserted.asked, inserted.reply_offset) == (asked, 40)
    assert row.asked == asked
    assert (row.state, row.attempt, row.reply_partition, row.reply_offset) == ("pending", 0, 2, 40)
    assert 29_000 < row.left_ms <= 30_000
    assert (row.outcome, row.terminal_seq, row.answer, row.scores, row.published) == (None, None, None, None, False)
    assert await rows.questions.find("globex", asked.query) is None


async def test_an_id_is_taken_once(rows: Rows) -> None:
    asked = question()

    inserted = await asyncio.gather(*(rows.questions.insert(asked, reply_offset=40) for _ in range(5)))

    assert [row.asked for row in inserted if row is not None] == [asked]


async def test_a_rejected_question_is_accepted_anew_in_its_first_reply_partition(rows: Rows) -> None:
    asked = question()
    await rows.questions.insert(asked, reply_offset=40)
    await rows.questions.reject(asked.query)

    again = msgspec.structs.replace(asked, reply_partition=5, asked_ms=2_000, deadline_ms=32_000, generation="g2")
    inserted = await rows.questions.insert(again, reply_offset=90)
    row = await find(rows, asked.query)

    assert inserted is not None
    assert (inserted.asked.reply_partition, inserted.reply_offset) == (2, 40)
    assert row.asked == msgspec.structs.replace(again, reply_partition=2)
    assert (row.state, row.reply_offset, row.finished_ms) == ("pending", 40, None)


async def test_only_what_nobody_else_produces_or_has_claimed_is_rejected(rows: Rows) -> None:
    requeued = await ask(rows, rows.questions.requeue)

    assert await rows.questions.reject(await ask(rows)) is True
    assert await rows.questions.reject(await ask(rows, rows.claim)) is False
    assert await rows.questions.reject(await ask(rows, rows.claim, rows.finish)) is False
    assert await rows.questions.reject(requeued) is False
    assert await rows.questions.reject(new_query_id()) is False


async def test_one_of_many_who_ask_again_produces_the_question(rows: Rows) -> None:
    query = await ask(rows)

    assert sorted(await asyncio.gather(*(rows.questions.requeue(query) for _ in range(5)))) == [False] * 4 + [True]
    assert await rows.questions.requeue(await ask(rows, rows.claim)) is False


async def test_an_open_question_expires_once(rows: Rows) -> None:
    query = await ask(rows, rows.claim)

    ended = await rows.questions.expire(query)

    assert ended is not None
    assert (ended.state, ended.outcome, ended.attempt, ended.terminal_seq) == ("finished", "error", 1, -1)
    assert ended.error == DEADLINE_EXCEEDED
    assert ended.finished_ms is not None
    assert await rows.questions.expire(query) is None
    assert await rows.questions.expire(await ask(rows, rows.claim, rows.finish)) is None


async def test_a_cancel_ends_the_attempt_that_it_saw_with_the_text_so_far(rows: Rows) -> None:
    query = await ask(rows, rows.claim)

    missed = await rows.questions.finish_cancelled(query, attempt=0, answer=Answer(text=""), terminal_seq=1)
    ended = await rows.questions.finish_cancelled(query, attempt=1, answer=Answer(text="So far"), terminal_seq=2)
    again = await rows.questions.finish_cancelled(query, attempt=1, answer=Answer(text="Later"), terminal_seq=3)

    assert missed is None
    assert ended is not None
    assert (ended.outcome, ended.terminal_seq, ended.error) == ("cancelled", 2, None)
    assert ended.answer is not None
    assert ended.answer["text"] == "So far"
    assert again is None
    assert (await find(rows, query)).answer == ended.answer


async def test_a_cancel_is_requested_of_open_questions(rows: Rows) -> None:
    assert await rows.questions.request_cancel(await ask(rows)) is True
    assert await rows.questions.request_cancel(await ask(rows, rows.claim)) is True
    assert await rows.questions.request_cancel(await ask(rows, rows.claim, rows.finish)) is False


async def test_the_last_feedback_of_a_finished_question_is_kept(rows: Rows) -> None:
    query = await ask(rows, rows.claim)

    await rows.questions.set_feedback("acme", query, FEEDBACK)
    early = (await find(rows, query)).feedback
    await rows.finish(query)
    await rows.questions.set_feedback("acme", query, FEEDBACK)
    await rows.questions.set_feedback("acme", query, msgspec.structs.replace(FEEDBACK, rating="down", comment=None))
    await rows.questions.set_feedback("globex", query, FEEDBACK)

    assert early is None
    assert (await find(rows, query)).feedback == {"query": "q", "tenant": "acme", "rating": "down", "given_ms": 1_000}


async def test_the_generation_is_what_the_alias_names(rows: Rows) -> None:
    assert await rows.questions.generation() == "g1"


# --- sweeping -------------------------------------------------------------------------------------


async def test_what_is_past_its_deadline_and_open_expires(rows: Rows) -> None:
    late, later = await ask(rows, rows.pass_deadline), await ask(rows, rows.claim, rows.pass_deadline)
    await ask(rows)
    await ask(rows, rows.claim, rows.finish, rows.pass_deadline)

    ended = await rows.swept.expire(10)

    assert {row.id for row in ended} == {late, later}
    assert {(row.state, row.outcome, row.error["reason"]) for row in ended if row.error} == {
        ("finished", "error", "deadline_exceeded")
    }
    assert await rows.swept.expire(10) == []


async def test_lapsed_and_unclaimed_questions_are_put_back(rows: Rows) -> None:
    lapsed = await ask(rows, rows.claim, rows.lapse)
    unclaimed = await ask(rows, rows.let_wait)
    await ask(rows)
    await ask(rows, rows.claim)
    await ask(rows, rows.claim, rows.lapse, rows.pass_deadline)

    found = {each.row.id: each for each in await rows.swept.requeue(10)}

    assert {query: each.lapsed for query, each in found.items()} == {lapsed: True, unclaimed: False}
    assert (found[lapsed].row.state, found[lapsed].row.attempt) == ("pending", 1)
    assert found[lapsed].row.asked.text == "When?"
    assert await rows.swept.requeue(10) == []


async def test_a_question_that_was_put_back_waits_anew(rows: Rows) -> None:
    query = await ask(rows, rows.claim, rows.lapse)
    await rows.swept.requeue(10)
    await rows.let_wait(query)

    assert [each.lapsed for each in await rows.swept.requeue(10)] == [False]


async def test_an_end_is_published_again_until_that_succeeds(rows: Rows) -> None:
    lying = await ask(rows, rows.claim, rows.finish, rows.let_lie)
    published = await ask(rows, rows.claim, rows.finish, rows.let_lie, rows.questions.set_published)
    fresh = await ask(rows, rows.claim, rows.finish)
    seen: list[str] = []

    async def fail(row: QuestionRow) -> bool:
        seen.append(row.id)
        return False

    async def succeed(row: QuestionRow) -> bool:
        seen.append(row.id)
        assert (row.outcome, row.attempt, row.terminal_seq) == ("done", 1, 3)
        return True

    n_published = [await rows.swept.republish(do, limit=10) for do in (fail, succeed, succeed)]

    assert n_published == [0, 1, 0]
    assert seen == [lying, lying]
    assert [(await find(rows, query)).published for query in (lying, published, fresh)] == [True, True, False]


async def test_no_more_is_taken_at_a_time_than_asked_for(rows: Rows) -> None:
    for _ in range(3):
        await ask(rows, rows.pass_deadline)

    assert [len(await rows.swept.expire(2)) for _ in range(3)] == [2, 1, 0]


async def test_the_oldest_open_question_has_an_age(rows: Rows) -> None:
    await ask(rows, rows.claim, rows.finish)
    none = await rows.swept.oldest_open_s()
    await ask(rows)

    assert none == 0.0
    assert 0.0 <= await rows.swept.oldest_open_s() < 5.0


@pytest.mark.integration
async def test_several_sweepers_do_each_thing_once(pool: Any) -> None:
    rows = _real(pool)
    late = [await ask(rows, rows.pass_deadline) for _ in range(20)]
    lapsed = [await ask(rows, rows.claim, rows.lapse) for _ in range(20)]
    lying = [await ask(rows, rows.claim, rows.finish, rows.let_lie) for _ in range(20)]
    expired: list[str] = []
    requeued: list[str] = []
    published: list[str] = []

    async def publish(row: QuestionRow) -> bool:
        await asyncio.sleep(0)
        published.append(row.id)
        return True

    async def sweep() -> None:
        for _ in range(8):
            expired.extend(row.id for row in await rows.swept.expire(3))
            requeued.extend(each.row.id for each in await rows.swept.requeue(3))
            await rows.swept.republish(publish, limit=3)

    await asyncio.gather(*(sweep() for _ in range(4)))

    assert (sorted(expired), sorted(requeued), sorted(published)) == (sorted(late), sorted(lapsed), sorted(lying))


@pytest.mark.integration
async def test_old_keys_and_lapsed_gateways_are_dropped(pool: Any) -> None:
    await pool.execute(
        "INSERT INTO idempotency_keys (tenant, key, route, body_sha256, created_at) VALUES "
        "('acme', 'old', '/v1/query', '', now() - interval '25 hours'), ('acme', 'new', '/v1/query', '', now())"
    )
    await pool.execute(
        "INSERT INTO gateways (gateway, reply_partition, lease_until) VALUES "
        "('gone', 0, now() - interval '1 s'), ('here', 1, now() + interval '10 s')"
    )

    await _real(pool).swept.drop_old()

    assert await pool.fetchval("SELECT array_agg(key) FROM idempotency_keys") == ["new"]
    assert await pool.fetchval("SELECT array_agg(gateway) FROM gateways") == ["here"]
