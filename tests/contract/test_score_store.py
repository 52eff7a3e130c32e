"""What every `ScoreStore` does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from schemas.events import Scores
from schemas.ids import QueryId, new_query_id
from streams.adapters.postgres_scores import PostgresScores
from streams.ports import ScoreStore
from tests.doubles.score_store import MemoryScores

GOOD = Scores(faithfulness=0.9167, relevance=0.5, n_sentences=3, n_supported=2, scorer="sentences@1")
BAD = Scores(faithfulness=0.1, relevance=0.5, n_sentences=3, n_supported=0, scorer="sentences@1")
UNKNOWN = Scores(scorer="sentences@1")


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The port, what a gateway does (`ask` inserts a row of acme), and what it reads."""

    store: ScoreStore
    ask: Callable[[], Awaitable[QueryId]]
    stored: Callable[[QueryId], Awaitable[Any]]


def _double() -> Scored:
    store = MemoryScores()

    async def ask() -> QueryId:
        query = new_query_id()
        store.rows[query, "acme"] = None
        return query

    async def stored(query: QueryId) -> Any:
        scores = store.rows[query, "acme"]
        return scores and scores.faithfulness

    return Scored(store=store, ask=ask, stored=stored)


def _real(pool: Any) -> Scored:
    async def ask() -> QueryId:
        query = new_query_id()
        await pool.execute(
            "INSERT INTO queries (id, tenant, question, state, reply_partition, deadline, generation) "
            "VALUES ($1, 'acme', '{}', 'finished', 0, now(), 'g1')",
            query,
        )
        return query

    async def stored(query: QueryId) -> Any:
        scores = await pool.fetchval("SELECT scores FROM queries WHERE id = $1", query)
        return scores and scores["faithfulness"]

    return Scored(store=PostgresScores(pool=pool), ask=ask, stored=stored)


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def scored(request: pytest.FixtureRequest) -> Scored:
    return _double() if request.param == "double" else _real(request.getfixturevalue("pool"))


async def test_the_first_scores_of_a_scorer_hold(scored: Scored) -> None:
    query = await scored.ask()

    assert await scored.store.keep(query, "acme", GOOD) == GOOD
    assert await scored.store.keep(query, "acme", BAD) == GOOD
    assert await scored.stored(query) == 0.9167


async def test_scores_that_cannot_be_told_are_kept_too(scored: Scored) -> None:
    query = await scored.ask()

    assert await scored.store.keep(query, "acme", UNKNOWN) == UNKNOWN
    assert await scored.store.keep(query, "acme", GOOD) == UNKNOWN


async def test_another_scorer_replaces_them(scored: Scored) -> None:
    query = await scored.ask()
    better = Scores(faithfulness=0.7, scorer="judge@1")
    await scored.store.keep(query, "acme", GOOD)

    assert await scored.store.keep(query, "acme", better) == better
    assert await scored.stored(query) == 0.7


async def test_another_tenants_question_is_left_alone(scored: Scored) -> None:
    query = await scored.ask()

    assert await scored.store.keep(query, "globex", GOOD) == GOOD
    assert await scored.stored(query) is None


async def test_a_question_without_a_row_is_no_error(scored: Scored) -> None:
    assert await scored.store.keep(new_query_id(), "acme", GOOD) == GOOD
