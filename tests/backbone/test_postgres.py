"""Connections to Postgres, and what counts as away."""

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from backbone.postgres import is_away, open_pool
from backbone.settings import PostgresSettings


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
