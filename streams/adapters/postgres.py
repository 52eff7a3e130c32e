"""Lends connections of the pool to the Postgres adapters and says `Transient` where Postgres is away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from backbone.postgres import ACQUIRE_TIMEOUT_S, is_away, raise_if_cancelled
from streams.errors import Lost, Transient

_LOSABLE = "chunks_"
"""How the tables begin that can be rebuilt; without another one, something is wrong with this code or its database."""

Pool = asyncpg.Pool
Connection = asyncpg.pool.PoolConnectionProxy


@asynccontextmanager
async def lend(pool: "Pool[Any]") -> "AsyncIterator[Connection[Any]]":
    """Lend a connection; every statement outside a transaction commits by itself.

    Raises:
        Transient: Postgres is away or busy, or its pool stays taken.
        Lost: the table of a generation is gone.
    """
    try:
        async with pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            yield connection
    except asyncpg.UndefinedTableError as error:
        if _LOSABLE not in str(error):
            raise
        # somebody lost it, and somebody can give it back; till then nothing that needs it is to blame
        raise Lost(f"a table is gone ({error}); `headrace rebuild --sink pgvector` gives it back") from error
    except Exception as error:
        if is_away(error):
            raise_if_cancelled(error)
            raise Transient(
                f"Postgres is away or busy: {str(error) or type(error).__name__}", part="postgres"
            ) from error
        raise


@asynccontextmanager
async def transaction(pool: "Pool[Any]") -> "AsyncIterator[Connection[Any]]":
    """Lend a connection inside a transaction (read committed); an exception rolls it back.

    Raises:
        Transient: as `lend`; nothing was changed, or, when the connection broke while committing, everything was.
    """
    async with lend(pool) as connection, connection.transaction():
        yield connection
