"""What the Postgres adapters say when Postgres is away, and when the fault is ours."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from backbone.postgres import open_pool
from backbone.settings import PostgresSettings
from streams.adapters.postgres import lend, transaction
from streams.adapters.postgres_documents import PostgresDocuments
from streams.errors import Transient
from tests.contract.factories import key_of


@pytest.fixture
async def pool(postgres: Callable[[], Awaitable[str]]) -> "AsyncIterator[asyncpg.Pool[Any]]":
    pool = await open_pool(PostgresSettings.model_validate({"postgres_dsn": await postgres(), "postgres_pool_max": 2}))
    yield pool
    await pool.close()


async def test_a_server_that_is_down_is_transient() -> None:
    pool = await open_pool(PostgresSettings.model_validate({"postgres_dsn": "postgresql://postgres@127.0.0.1:1/none"}))

    with pytest.raises(Transient, match="Postgres is away"):
        await PostgresDocuments(pool=pool).latest_version(key_of())
    await pool.close()


@pytest.mark.integration
async def test_a_server_that_restarts_is_transient_once_and_works_again(pool: "asyncpg.Pool[Any]") -> None:
    documents = PostgresDocuments(pool=pool)
    with pytest.raises(Transient):
        async with transaction(pool) as doomed:
            await pool.execute("SELECT pg_terminate_backend($1)", await doomed.fetchval("SELECT pg_backend_pid()"))
            await doomed.fetchval("SELECT 1")

    assert await documents.latest_version(key_of()) is None


@pytest.mark.integration
async def test_a_fault_of_ours_is_not_transient(pool: "asyncpg.Pool[Any]") -> None:
    with pytest.raises(asyncpg.UndefinedTableError):
        async with lend(pool) as connection:
            await connection.execute("SELECT * FROM no_such_table")


@pytest.mark.integration
async def test_a_failing_block_rolls_its_transaction_back(pool: "asyncpg.Pool[Any]") -> None:
    with pytest.raises(KeyError):
        async with transaction(pool) as connection:
            await connection.execute("INSERT INTO documents (tenant, document) VALUES ('acme', 'guide')")
            raise KeyError("guide")

    assert await pool.fetchval("SELECT count(*) FROM documents") == 0


@pytest.mark.integration
async def test_a_table_that_is_gone_is_waited_for_and_says_how_it_comes_back(pool: "asyncpg.Pool[Any]") -> None:
    with pytest.raises(Transient, match="headrace rebuild --sink pgvector"):
        async with lend(pool) as connection:
            await connection.fetch("SELECT FROM chunks_lost")


@pytest.mark.integration
@pytest.mark.parametrize("lent", [lend, transaction])
async def test_who_is_cancelled_amid_a_statement_ends(pool: "asyncpg.Pool[Any]", lent: Any) -> None:
    lent_to_it = asyncio.Event()

    async def work() -> None:
        async with lent(pool) as connection:
            lent_to_it.set()
            await connection.execute("SELECT pg_sleep(60)")

    working = asyncio.create_task(work())
    await lent_to_it.wait()
    working.cancel()

    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await working


@pytest.mark.integration
async def test_a_statement_that_takes_too_long_for_its_caller_is_no_cancellation(pool: "asyncpg.Pool[Any]") -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2), transaction(pool) as connection:
            await connection.execute("SELECT pg_sleep(60)")
    with pytest.raises(Transient):
        async with transaction(pool) as connection, asyncio.timeout(0.2):
            await connection.execute("SELECT pg_sleep(60)")
