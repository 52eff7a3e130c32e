"""Lends connections to Postgres, and says so to the caller where it is away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from backbone.postgres import is_away, raise_if_cancelled
from gateway.problems import unavailable

FREE_S: Final = 5.0
"""How long a request waits for a free connection of the pool; a new one takes no longer."""
STATEMENT_S: Final = 6.0
"""Longest time of a statement: a caller is better told to come again than kept waiting."""


@asynccontextmanager
async def lend(pool: "asyncpg.Pool[Any]") -> "AsyncIterator[asyncpg.pool.PoolConnectionProxy[Any]]":
    """Lend a connection; every statement commits by itself.

    Raises:
        Problem: 503, Postgres is away or all connections of the pool stay taken.
    """
    try:
        async with pool.acquire(timeout=FREE_S) as connection:
            yield connection
    except Exception as error:
        if is_away(error):
            raise_if_cancelled(error)
            raise unavailable("Postgres", error) from error
        raise
