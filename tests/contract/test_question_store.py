"""What every `QuestionStore` does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from schemas.events import Answer, Citation
from schemas.ids import QueryId, new_query_id
from streams.adapters.postgres_questions import PostgresQuestions
from streams.ports import Claimed, QuestionStore
from tests.doubles.question_store import MemoryQuestions, QuestionRow

ANSWER = Answer(text="Yes [1].", citations=[Citation(marker=1, document="d", chunk="c", quote="Yes.", start=0, end=4)])


@dataclass(frozen=True, kw_only=True)
class Questions:
    """The port, and what a gateway does: `ask(state, in_time)` inserts a row."""

    store: QuestionStore
    ask: Callable[..., Awaitable[QueryId]]


def _double() -> Questions:
    store = MemoryQuestions()

    async def ask(*, state: str = "pending", in_time: bool = True) -> QueryId:
        query = new_query_id()
        store.rows[query] = QuestionRow(state=state, in_time=in_time)
        return query

    return Questions(store=store, ask=ask)


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

    return Questions(store=PostgresQuestions(pool=pool), ask=ask)


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def questions(request: pytest.FixtureRequest) -> Questions:
    return _double() if request.param == "double" else _real(request.getfixturevalue("pool"))


async def test_each_claim_is_the_next_attempt(questions: Questions) -> None:
    query = await questions.ask()

    assert [await questions.store.claim(query), await questions.store.claim(query)] == [
        Claimed(attempt=1),
        Claimed(attempt=2),
    ]


async def test_the_last_attempt_finishes_once(questions: Questions) -> None:
    query = await questions.ask()
    await questions.store.claim(query)
    await questions.store.claim(query)

    assert await questions.store.finish(query, 1, ANSWER) is False
    assert await questions.store.finish(query, 2, ANSWER) is True
    assert await questions.store.finish(query, 2, ANSWER) is False


async def test_a_claim_on_a_finished_question_gives_its_answer(questions: Questions) -> None:
    query = await questions.ask()
    await questions.store.claim(query)
    await questions.store.finish(query, 1, ANSWER)

    assert await questions.store.claim(query) == Claimed(attempt=1, answer=ANSWER)


async def test_an_unclaimed_question_cannot_be_finished(questions: Questions) -> None:
    query = await questions.ask()

    assert await questions.store.finish(query, 0, ANSWER) is False


async def test_unknown_rejected_and_late_questions_cannot_be_claimed(questions: Questions) -> None:
    assert await questions.store.claim(new_query_id()) is None
    assert await questions.store.claim(await questions.ask(state="rejected")) is None
    assert await questions.store.claim(await questions.ask(in_time=False)) is None


async def test_a_question_past_its_deadline_cannot_be_finished(questions: Questions) -> None:
    query = await questions.ask(state="claimed", in_time=False)

    assert await questions.store.finish(query, 0, ANSWER) is False


async def test_a_question_fails_once_and_is_over(questions: Questions) -> None:
    query = await questions.ask()
    await questions.store.claim(query)

    assert await questions.store.fail(query, "bug", "Something broke.") is True
    assert await questions.store.fail(query, "bug", "Something broke.") is False
    assert await questions.store.finish(query, 1, ANSWER) is False
    assert await questions.store.claim(query) is None


async def test_an_answered_or_rejected_question_cannot_fail(questions: Questions) -> None:
    query = await questions.ask()
    await questions.store.claim(query)
    await questions.store.finish(query, 1, ANSWER)

    assert await questions.store.fail(query, "bug", "Something broke.") is False
    assert await questions.store.fail(await questions.ask(state="rejected"), "bug", "Something broke.") is False
    assert await questions.store.fail(new_query_id(), "bug", "Something broke.") is False
