"""Lends connections to Postgres, and says so to the caller where it is away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from backbone.postgres import ACQUIRE_TIMEOUT_S, is_away
from gateway.problems import unavailable


@asynccontextmanager
async def lend(pool: "asyncpg.Pool[Any]") -> "AsyncIterator[asyncpg.pool.PoolConnectionProxy[Any]]":
    """Lend a connection; every statement commits by itself.

    Raises:
        Problem: 503, Postgres is away or all connections of the pool stay taken.
    """
    try:
        async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            yield connection
    except Exception as error:
        if is_away(error):
            raise unavailable("Postgres", error or type(error).__name__) from error
        raise
