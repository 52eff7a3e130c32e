"""What is open and what has ended, from the table of questions."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from backbone.postgres import open_pool
from backbone.settings import PostgresSettings
from gateway.admission.watch import Own, TableWatch
from gateway.questions import PostgresQuestionRows
from schemas.ids import new_query_id
from tests.gateway.factories import question

pytestmark = pytest.mark.integration


@pytest.fixture
async def pool(postgres: Callable[[], Awaitable[str]]) -> "AsyncIterator[asyncpg.Pool[Any]]":
    pool = await open_pool(PostgresSettings.model_validate({"postgres_dsn": await postgres()}))
    yield pool
    await pool.close()


async def ask(pool: "asyncpg.Pool[Any]", tenant: str = "acme", **columns: Any) -> str:
    """Put a question into the table, its row as it is after some change."""
    asked = question(tenant=tenant)
    await PostgresQuestionRows(pool=pool, alias="live").insert(asked, reply_offset=0)
    for column, value in columns.items():
        await pool.execute(f"UPDATE queries SET {column} = {value} WHERE id = $1", asked.query)
    return asked.query


async def finish(pool: "asyncpg.Pool[Any]", ago_s: float, took_s: float, outcome: str = "done", **more: Any) -> str:
    return await ask(
        pool,
        state="'finished'",
        outcome=f"'{outcome}'",
        finished_at=f"now() - interval '{ago_s} seconds'",
        created_at=f"now() - interval '{ago_s + took_s} seconds'",
        **more,
    )


async def test_open_questions_are_counted_by_tenant(pool: "asyncpg.Pool[Any]") -> None:
    await ask(pool)
    await ask(pool, state="'claimed'")
    await ask(pool, tenant="globex")
    await ask(pool, state="'rejected'")
    await finish(pool, 1, 1)

    look = await TableWatch(pool=pool).look({}, 0)

    assert look.open_of == {"acme": 2, "globex": 1}


async def test_the_last_answers_are_timed_the_newest_first_and_errors_are_not(pool: "asyncpg.Pool[Any]") -> None:
    await finish(pool, 20, 2)
    await finish(pool, 5, 0.5, outcome="cancelled", tenant="globex")
    await finish(pool, 1, 30, outcome="error")
    await finish(pool, 40, 1)

    look = await TableWatch(pool=pool).look({}, 0)

    assert [(each.tenant, round(each.ago_s), round(each.took_s, 1)) for each in look.ended] == [
        ("globex", 5, 0.5),
        ("acme", 20, 2.0),
    ]


async def test_own_questions_that_are_open_no_more_are_named_once_they_are_settled(pool: "asyncpg.Pool[Any]") -> None:
    opened, ended, just_now = await ask(pool), await finish(pool, 1, 1), new_query_id()
    own = {
        opened: Own(tenant="acme", since_s=0),
        ended: Own(tenant="acme", since_s=0),
        just_now: Own(tenant="acme", since_s=9.9),
    }

    look = await TableWatch(pool=pool).look(own, 10)

    assert look.closed == [ended]


async def test_the_questions_that_ended_last_are_found_by_an_index(pool: "asyncpg.Pool[Any]") -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL enable_seqscan = off")
        plan = await connection.fetch(
            "EXPLAIN SELECT 1 FROM queries WHERE state = 'finished' AND finished_at > now() ORDER BY finished_at DESC"
        )

    assert any("queries_ended" in row[0] for row in plan)
