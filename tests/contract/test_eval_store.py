"""What every `EvalStore` does."""

import asyncio
from itertools import permutations
from typing import Any, Final

import pytest

from schemas.ids import new_query_id
from streams.adapters.postgres_evals import PostgresEvals
from streams.ports import Eval, EvalPart, EvalStore
from tests.doubles.eval_store import MemoryEvals

RESULT: Final[dict[str, Any]] = {"question": "Why?", "outcome": "done", "ranker_scores": {"dense": [0.25, None]}}
SCORES: Final[dict[str, Any]] = {"faithfulness": 1.0, "relevance": None, "scorer": "sentences@1"}
FEEDBACK: Final[dict[str, Any]] = {"rating": "up", "feedback_ms": 2_000}
PARTS: Final[dict[EvalPart, dict[str, Any]]] = {"result": RESULT, "scores": SCORES, "feedback": FEEDBACK}


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def evals(request: pytest.FixtureRequest) -> EvalStore:
    return MemoryEvals() if request.param == "double" else PostgresEvals(pool=request.getfixturevalue("pool"))


async def test_parts_come_in_any_order_and_each_raises_the_revision(evals: EvalStore) -> None:
    for order in permutations(PARTS):
        query = new_query_id()
        rows = [await evals.merge(query, "acme", part, PARTS[part]) for part in order]

        assert [row and row.revision for row in rows] == [1, 2, 3]
        assert rows[2] == Eval(revision=3, result=RESULT, scores=SCORES, feedback=FEEDBACK)
        assert await evals.read(query, "acme") == rows[2]


async def test_a_part_that_comes_again_changes_nothing(evals: EvalStore) -> None:
    query = new_query_id()
    for part, fields in PARTS.items():
        await evals.merge(query, "acme", part, fields)

    for part, fields in PARTS.items():
        again = await evals.merge(query, "acme", part, fields)
        assert again == Eval(revision=3, result=RESULT, scores=SCORES, feedback=FEEDBACK)


async def test_a_part_that_is_different_replaces_the_former(evals: EvalStore) -> None:
    query = new_query_id()
    await evals.merge(query, "acme", "scores", SCORES)

    assert await evals.merge(query, "acme", "scores", {"scorer": "judge@1"}) == Eval(
        revision=2, scores={"scorer": "judge@1"}
    )


async def test_the_latest_feedback_holds_whatever_comes_last(evals: EvalStore) -> None:
    query = new_query_id()
    later = {"rating": "down", "feedback_ms": 10_000}
    await evals.merge(query, "acme", "feedback", FEEDBACK)
    await evals.merge(query, "acme", "feedback", later)

    assert await evals.merge(query, "acme", "feedback", FEEDBACK) == Eval(revision=2, feedback=later)


async def test_another_tenant_neither_changes_nor_reads_a_row(evals: EvalStore) -> None:
    query = new_query_id()
    await evals.merge(query, "acme", "result", RESULT)

    assert await evals.merge(query, "globex", "feedback", FEEDBACK) is None
    assert await evals.read(query, "globex") is None
    assert await evals.read(query, "acme") == Eval(revision=1, result=RESULT)


async def test_a_question_that_nobody_spoke_of_has_no_row(evals: EvalStore) -> None:
    assert await evals.read(new_query_id(), "acme") is None


async def test_parts_that_come_at_once_all_count(evals: EvalStore) -> None:
    queries = [new_query_id() for _ in range(10)]
    merging = [evals.merge(query, "acme", part, fields) for query in queries for part, fields in PARTS.items()]
    await asyncio.gather(*merging)

    for query in queries:
        assert await evals.read(query, "acme") == Eval(revision=3, result=RESULT, scores=SCORES, feedback=FEEDBACK)
