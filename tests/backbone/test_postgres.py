"""Connections to Postgres, and what counts as away."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from backbone.postgres import check, is_away, open_pool
from backbone.settings import PostgresSettings
from tests.proxy import Proxy, proxy


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        asyncpg.InterfaceError("connection is closed"),
        asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
        asyncpg.CannotConnectNowError("the database system is starting up"),
        asyncpg.AdminShutdownError("terminating connection"),
        asyncpg.TooManyConnectionsError("sorry, too many clients already"),
        asyncpg.DeadlockDetectedError("deadlock detected"),
        asyncpg.QueryCanceledError("canceling statement due to statement timeout"),
        asyncpg.IdleInTransactionSessionTimeoutError("terminating connection"),
        asyncpg.DiskFullError("no space left"),
        asyncpg.ReadOnlySQLTransactionError("cannot execute INSERT in a read-only transaction"),
        asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress"),
    ],
)
def test_these_mean_that_postgres_is_away_or_busy(error: Exception) -> None:
    assert is_away(error)


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.UndefinedTableError("relation does not exist"),
        asyncpg.UniqueViolationError("duplicate key"),
        asyncpg.InvalidPasswordError("password authentication failed"),
        ValueError("bug"),
    ],
)
def test_these_do_not(error: Exception) -> None:
    assert not is_away(error)


async def test_a_pool_opens_while_the_server_is_down() -> None:
    pool = await open_pool(PostgresSettings.model_validate({"postgres_dsn": "postgresql://postgres@127.0.0.1:1/none"}))

    with pytest.raises(OSError, match="Connect call failed") as caught:
        await pool.fetchval("SELECT 1")

    assert is_away(caught.value)
    await pool.close()


@pytest.mark.integration
async def test_a_lost_connection_is_replaced(postgres: Callable[[], Awaitable[str]]) -> None:
    settings = PostgresSettings.model_validate({"postgres_dsn": await postgres(), "postgres_pool_max": 2})
    pool = await open_pool(settings)
    async with pool.acquire() as doomed, pool.acquire() as killer:
        pid = await doomed.fetchval("SELECT pg_backend_pid()")
        await killer.execute("SELECT pg_terminate_backend($1)", pid)
        try:
            await doomed.fetchval("SELECT 1")
        except Exception as error:
            assert is_away(error)
        else:
            pytest.fail("a terminated connection answered")

    assert await pool.fetchval("SELECT $1::jsonb", {"a": [1]}) == {"a": [1]}
    await pool.close()


@asynccontextmanager
async def impatient(dsn: str) -> "AsyncIterator[tuple[asyncpg.Pool[Any], Proxy]]":
    """A pool whose statements may take half a second, and the proxy that it goes through."""
    port = urlsplit(dsn).port
    assert port is not None
    with proxy(port) as between:
        settings = {"postgres_dsn": dsn.replace(f":{port}/", f":{between.port}/"), "postgres_pool_max": 1}
        pool = await open_pool(PostgresSettings.model_validate(settings), statement_s=0.5)
        yield pool, between
        await pool.close()


@pytest.mark.integration
async def test_the_server_ends_a_statement_that_takes_too_long_and_the_connection_is_kept(
    postgres: Callable[[], Awaitable[str]],
) -> None:
    async with impatient(await postgres()) as (pool, between):
        pid = await pool.fetchval("SELECT pg_backend_pid()")
        with pytest.raises(asyncpg.QueryCanceledError):
            await pool.fetchval("SELECT pg_sleep(10)")

        assert await pool.fetchval("SELECT pg_backend_pid()") == pid
        assert between.n_accepted == 1


@pytest.mark.integration
async def test_nobody_waits_twice_for_a_server_that_does_not_answer(postgres: Callable[[], Awaitable[str]]) -> None:
    async with impatient(await postgres()) as (pool, between):
        with ExitStack() as freezing, pytest.raises(Exception) as caught:
            async with pool.acquire(timeout=20) as connection, connection.transaction():
                pid = await connection.fetchval("SELECT pg_backend_pid()")
                freezing.enter_context(between.frozen())
                began = time.monotonic()
                await connection.fetchval("SELECT 1")
        frozen_s = time.monotonic() - began

        assert is_away(caught.value)
        # the statement's time, and 2 s in which the server may say so; to roll back would take as long again
        assert 2.5 <= frozen_s < 4.5
        assert await pool.fetchval("SELECT pg_backend_pid()") != pid


@pytest.mark.integration
async def test_a_server_that_only_reads_is_away_and_a_check_leaves_nothing_behind(
    postgres: Callable[[], Awaitable[str]],
) -> None:
    settings = PostgresSettings.model_validate({"postgres_dsn": await postgres()})
    connection = await asyncpg.connect(settings.postgres_dsn.get_secret_value())
    size = "SELECT count(*) FROM pg_class"
    before = await connection.fetchval(size)

    await check(settings)
    await check(settings)

    assert await connection.fetchval(size) == before
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError) as caught:
        await check(settings)
    assert is_away(caught.value)
    await connection.close()
