"""What every `QuestionStore` does."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from schemas.events import Answer, Citation, Hit
from schemas.ids import QueryId, new_query_id
from streams.adapters.postgres_questions import PostgresQuestions
from streams.ports import Claimed, Ended, Ending, QuestionStore
from tests.doubles.question_store import MemoryQuestions, QuestionRow

ANSWER = Answer(text="Yes [1].", citations=[Citation(marker=1, document="d", chunk="c", quote="Yes.", start=0, end=4)])
HITS = [Hit(document="d", version=2, chunk="c", score=0.5, scores={"dense": 0.25}, sentence_scores=[0.75])]
DONE = Ending(outcome="done", terminal_seq=3, answer=ANSWER, hits=HITS, retrieve_ms=12.0)
CANCELLED = Ending(outcome="cancelled", terminal_seq=1, answer=Answer(text="Ye"))
FAILED = Ending(outcome="error", terminal_seq=-1, hits=HITS, reason="bug", message="Something broke.")
COLUMNS = "outcome, terminal_seq, answer, error, hits, retrieve_ms, published_at IS NOT NULL AS published"


@dataclass(frozen=True, kw_only=True)
class Questions:
    """The port as two processes have it, and what a gateway and time do.

    Attributes:
        store: of one process; `other` is that of another one.
        ask: inserts a row; `state`, `in_time`.
        lapse: lets the lease of a claim run out.
        cancel: asks for the cancelling of a question.
        row: how a question ended, by column.
    """

    store: QuestionStore
    other: QuestionStore
    ask: Callable[..., Awaitable[QueryId]]
    lapse: Callable[[QueryId], Awaitable[None]]
    cancel: Callable[[QueryId], Awaitable[None]]
    row: Callable[[QueryId], Awaitable[Mapping[str, Any]]]


def _double() -> Questions:
    store = MemoryQuestions(worker="w1")

    async def ask(*, state: str = "pending", in_time: bool = True) -> QueryId:
        query = new_query_id()
        store.rows[query] = QuestionRow(state=state, in_time=in_time)
        return query

    async def lapse(query: QueryId) -> None:
        store.rows[query].lapsed = True

    async def cancel(query: QueryId) -> None:
        store.rows[query].cancel_asked = True

    async def row(query: QueryId) -> Mapping[str, Any]:
        found = store.rows[query]
        return {
            "outcome": found.outcome,
            "terminal_seq": found.terminal_seq,
            "answer": msgspec.to_builtins(found.answer),
            "error": found.error,
            "hits": msgspec.to_builtins(list(found.hits)),
            "retrieve_ms": found.retrieve_ms,
            "published": found.published,
        }

    other = MemoryQuestions(rows=store.rows, worker="w2")
    return Questions(store=store, other=other, ask=ask, lapse=lapse, cancel=cancel, row=row)


def _real(pool: Any) -> Questions:
    async def ask(*, state: str = "pending", in_time: bool = True) -> QueryId:
        query = new_query_id()
        await pool.execute(
            "INSERT INTO queries (id, tenant, question, state, reply_partition, deadline, generation) "
            "VALUES ($1, 'acme', '{}', $2, 0, now() + make_interval(secs => $3), 'g1')",
            query,
            state,
            30.0 if in_time else -1.0,
        )
        return query

    async def lapse(query: QueryId) -> None:
        await pool.execute("UPDATE queries SET lease_until = now() - interval '1 ms' WHERE id = $1", query)

    async def cancel(query: QueryId) -> None:
        await pool.execute(
            "UPDATE queries SET cancel_requested_at = now() - interval '20 ms' WHERE id = $1 AND state <> 'finished'",
            query,
        )

    async def row(query: QueryId) -> Mapping[str, Any]:
        return dict(await pool.fetchrow(f"SELECT {COLUMNS} FROM queries WHERE id = $1", query))

    store, other = (PostgresQuestions(pool=pool, worker=worker, lease_s=10.0) for worker in ("w1", "w2"))
    return Questions(store=store, other=other, ask=ask, lapse=lapse, cancel=cancel, row=row)


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def questions(request: pytest.FixtureRequest) -> Questions:
    return _double() if request.param == "double" else _real(request.getfixturevalue("pool"))


async def claimed(store: QuestionStore, query: QueryId) -> Claimed:
    claim = await store.claim(query)
    assert claim is not None
    return claim


# --- claims ---------------------------------------------------------------------------------------


async def test_a_claim_tells_its_attempt_and_the_time_that_is_left(questions: Questions) -> None:
    claim = await claimed(questions.store, await questions.ask())

    assert (claim.attempt, claim.cancel_asked_s, claim.taken_over) == (1, None, False)
    assert 25 < claim.left_s <= 30


async def test_a_question_is_not_taken_from_who_holds_it(questions: Questions) -> None:
    query = await questions.ask()
    await claimed(questions.store, query)

    assert await questions.other.claim(query) is None
    assert await questions.store.renew(query, 1) is not None


async def test_a_process_claims_again_what_it_holds_as_its_next_attempt(questions: Questions) -> None:
    query = await questions.ask()
    await claimed(questions.store, query)

    again = await claimed(questions.store, query)

    assert (again.attempt, again.taken_over) == (2, False)


async def test_a_lapsed_lease_is_taken_over(questions: Questions) -> None:
    query = await questions.ask()
    await claimed(questions.store, query)
    await questions.lapse(query)

    taken = await claimed(questions.other, query)

    assert (taken.attempt, taken.taken_over) == (2, True)
    assert await questions.store.claim(query) is None


async def test_lapses_are_counted_over_the_workers_that_let_their_lease_lapse(questions: Questions) -> None:
    query = await questions.ask()
    lapses = [(await claimed(questions.store, query)).lapses]
    for store in (questions.other, questions.store):
        await questions.lapse(query)
        lapses.append((await claimed(store, query)).lapses)

    assert lapses == [0, 1, 2]


async def test_who_gives_a_question_back_or_claims_it_again_lets_nothing_lapse(questions: Questions) -> None:
    query = await questions.ask()
    await claimed(questions.store, query)
    await questions.store.release(query, 1)
    assert (await claimed(questions.other, query)).lapses == 0

    await questions.lapse(query)
    assert (await claimed(questions.other, query)).lapses == 0


async def test_unknown_rejected_ended_and_late_questions_cannot_be_claimed(questions: Questions) -> None:
    assert await questions.store.claim(new_query_id()) is None
    for state in ("rejected", "finished"):
        assert await questions.store.claim(await questions.ask(state=state)) is None
    assert await questions.store.claim(await questions.ask(in_time=False)) is None


async def test_a_claim_tells_that_the_question_shall_be_cancelled(questions: Questions) -> None:
    query = await questions.ask()
    await questions.cancel(query)

    asked_s = (await claimed(questions.store, query)).cancel_asked_s

    assert asked_s is not None
    assert 0.02 <= asked_s < 5


# --- leases ---------------------------------------------------------------------------------------


async def test_a_renewed_lease_tells_of_a_cancel(questions: Questions) -> None:
    query = await questions.ask()
    await claimed(questions.store, query)

    before = await questions.store.renew(query, 1)
    await questions.cancel(query)
    after = await questions.store.renew(query, 1)

    assert before is not None and before.cancel_asked_s is None
    assert after is not None and after.cancel_asked_s is not None and 0.02 <= after.cancel_asked_s < 5


async def test_a_lease_that_lapsed_unnoticed_is_renewed_and_cannot_be_taken_over(questions: Questions) -> None:
    query = await questions.ask()
    await claimed(questions.store, query)
    await questions.lapse(query)

    assert await questions.store.renew(query, 1) is not None
    assert await questions.other.claim(query) is None


async def test_a_lease_is_lost_with_a_take_over_a_next_attempt_or_an_end(questions: Questions) -> None:
    taken, tried_again, ended = [await questions.ask() for _ in range(3)]
    for query in (taken, tried_again, ended):
        await claimed(questions.store, query)
    await questions.lapse(taken)
    await claimed(questions.other, taken)
    await claimed(questions.store, tried_again)
    await questions.store.finish(ended, 1, DONE)

    for query in (taken, tried_again, ended, new_query_id()):
        assert await questions.store.renew(query, 1) is None


async def test_what_is_given_back_is_taken_over_at_once(questions: Questions) -> None:
    query = await questions.ask()
    await claimed(questions.store, query)

    await questions.store.release(query, 1)

    assert (await claimed(questions.other, query)).attempt == 2


async def test_nobody_gives_back_what_another_holds(questions: Questions) -> None:
    query = await questions.ask()
    await claimed(questions.store, query)

    await questions.other.release(query, 1)
    await questions.store.release(query, 2)

    assert await questions.other.claim(query) is None


# --- ends -----------------------------------------------------------------------------------------


async def test_the_attempt_that_holds_the_question_ends_it_once(questions: Questions) -> None:
    query = await questions.ask()
    await claimed(questions.store, query)
    await claimed(questions.store, query)

    assert await questions.store.finish(query, 1, DONE) is None
    assert await questions.other.finish(query, 2, DONE) is None
    ended = await questions.store.finish(query, 2, DONE)
    assert await questions.store.finish(query, 2, DONE) is None

    assert isinstance(ended, Ended)
    assert ended.attempt == 2
    assert ended.finished_ms > 0
    assert await questions.row(query) == {
        "outcome": "done",
        "terminal_seq": 3,
        "answer": msgspec.to_builtins(ANSWER),
        "error": None,
        "hits": msgspec.to_builtins(HITS),
        "retrieve_ms": 12.0,
        "published": False,
    }


async def test_an_unclaimed_a_lost_and_a_late_question_cannot_be_finished(questions: Questions) -> None:
    unclaimed, lost = await questions.ask(), await questions.ask()
    await claimed(questions.store, lost)
    await questions.lapse(lost)
    await claimed(questions.other, lost)

    assert await questions.store.finish(unclaimed, 0, DONE) is None
    assert await questions.store.finish(lost, 1, DONE) is None
    assert await questions.store.finish(await questions.ask(state="claimed", in_time=False), 0, DONE) is None


async def test_a_question_that_shall_be_cancelled_can_only_end_so(questions: Questions) -> None:
    query = await questions.ask()
    await claimed(questions.store, query)
    await questions.cancel(query)

    assert await questions.store.finish(query, 1, DONE) is None
    assert await questions.store.finish(query, 1, CANCELLED) is not None
    row = await questions.row(query)
    assert (row["outcome"], row["terminal_seq"], row["answer"]) == ("cancelled", 1, {"text": "Ye"})


async def test_a_question_fails_once_and_is_over(questions: Questions) -> None:
    unclaimed, held = await questions.ask(), await questions.ask()
    await claimed(questions.store, held)

    for query, attempt in ((unclaimed, 0), (held, 1)):
        ended = await questions.store.fail(query, FAILED)
        assert ended is not None
        assert ended.attempt == attempt
        assert await questions.store.fail(query, FAILED) is None
        assert await questions.store.finish(query, attempt, DONE) is None
        assert await questions.store.claim(query) is None
    assert await questions.row(held) == {
        "outcome": "error",
        "terminal_seq": -1,
        "answer": None,
        "error": {"reason": "bug", "message": "Something broke."},
        "hits": msgspec.to_builtins(HITS),
        "retrieve_ms": None,
        "published": False,
    }


async def test_a_question_that_another_process_holds_cannot_fail_here(questions: Questions) -> None:
    query = await questions.ask()
    await claimed(questions.other, query)

    assert await questions.store.fail(query, FAILED) is None
    await questions.lapse(query)
    assert await questions.store.fail(query, FAILED) is not None


async def test_an_unknown_rejected_or_ended_question_cannot_fail(questions: Questions) -> None:
    assert await questions.store.fail(new_query_id(), FAILED) is None
    for state in ("rejected", "finished"):
        assert await questions.store.fail(await questions.ask(state=state), FAILED) is None


async def test_it_is_noted_that_an_end_is_published(questions: Questions) -> None:
    query = await questions.ask()
    await claimed(questions.store, query)
    await questions.store.finish(query, 1, DONE)

    await questions.store.published(query)
    await questions.store.published(query)

    assert (await questions.row(query))["published"] is True
