"""Connections to Postgres: a pool that outlives restarts of the server, and which errors mean that it is away."""

import asyncio
import functools
from contextlib import suppress
from typing import Any, Final

import asyncpg
import msgspec
from pgvector.asyncpg import register_vector

from backbone.settings import PostgresSettings

CONNECT_TIMEOUT_S: Final = 5.0
CHECK_TIMEOUT_S: Final = 3.0
STATEMENT_S: Final = 15.0
"""Longest time of a statement; those who wait for an answer want a shorter one."""
_VANISHED_S: Final = 2.0
"""The server itself ends a statement in time; one that is silent for so long after that has vanished."""
IDLE_IN_TRANSACTION_TIMEOUT_MS: Final = 30_000
"""A process that hangs while it holds locks loses them after this time."""

ACQUIRE_TIMEOUT_S: Final = 10.0
"""How long to wait for a free connection of the pool; give it to `Pool.acquire`."""

_AWAY_CLASSES: Final = frozenset({"08", "40", "53", "57"})
"""SQLSTATE classes: connection lost, transaction rolled back (deadlock), out of resources, shut down or cancelled."""

_AWAY_STATES: Final = frozenset({"25006", "25P03", "25P04", "55P03", "58030"})
"""Read-only (it follows another one), idle-in-transaction and transaction timeout, lock not available, I/O error of the
server."""

_WRITE: Final = """
CREATE TEMP TABLE headrace_check ON COMMIT DROP AS SELECT repeat('x', 1000) FROM generate_series(1, 1000)
"""


async def open_pool(settings: PostgresSettings, *, statement_s: float = STATEMENT_S) -> "asyncpg.Pool[asyncpg.Record]":
    """Make a pool of connections; the caller closes it.

    Nothing connects before the first use, so the server may still be down. Connections speak `halfvec` and `vector`
    (pgvector's types) and `jsonb` (Python values), which needs a migrated database. Lost connections are replaced, and
    so are those on which a statement was not answered in time, or was not waited for to its end.

    Args:
        settings: where it is, and how many connections there are at most.
        statement_s: longest time of a statement.
    """
    return await asyncpg.create_pool(
        settings.postgres_dsn.get_secret_value(),
        min_size=0,
        max_size=settings.postgres_pool_max,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=statement_s + _VANISHED_S,
        connection_class=_Connection,
        init=_teach_types,
        reset=_keep_session,
        server_settings={
            "application_name": "headrace",
            "statement_timeout": str(round(statement_s * 1000)),
            "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
        },
    )


async def check(settings: PostgresSettings) -> None:
    """Return when the server answers on a new connection, and takes what is written.

    One whose disk is full, or that only follows another one, answers all that reads. A role that may make no temporary
    tables cannot tell.

    Raises:
        Exception: it does not, of whatever kind.
    """
    connection = await asyncpg.connect(
        settings.postgres_dsn.get_secret_value(), timeout=CHECK_TIMEOUT_S, command_timeout=CHECK_TIMEOUT_S
    )
    try:
        with suppress(asyncpg.InsufficientPrivilegeError):
            await connection.execute(_WRITE)
    finally:
        connection.terminate()


def is_away(error: BaseException) -> bool:
    """Tell whether an error means that Postgres is away or busy, so that the same work may succeed later."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return state[:2] in _AWAY_CLASSES or state in _AWAY_STATES
    if isinstance(error, asyncpg.InterfaceError):
        # A closed connection or pool; a value that does not fit its parameter is a ValueError too, and a bug.
        return not isinstance(error, ValueError)
    # asyncpg says InternalClientError when it uses a connection at the moment in which the server's farewell arrives.
    return isinstance(error, OSError | TimeoutError | asyncpg.InternalClientError)


def raise_if_cancelled(error: BaseException) -> None:
    """Let a cancellation count that an error stands in the place of.

    A connection is ended where its statement is cancelled, and whoever then ends the transaction on it is told that it
    is closed. A task that took that for a failure would go on, and who waits for its end would wait for ever.

    Raises:
        CancelledError: this task is to end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError from error


def _or_end(method: Any) -> Any:
    """Let a method of a connection end that connection where its statement is not waited for to the end."""

    @functools.wraps(method)
    async def ending(connection: Any, *args: Any, **options: Any) -> Any:
        try:
            return await method(connection, *args, **options)
        except (TimeoutError, asyncio.CancelledError):
            connection.terminate()
            raise

    return ending


class _Connection(asyncpg.Connection):
    """Is of no more use after a statement that was not waited for to its end.

    asyncpg would have the server cancel the statement, and let whatever comes next on the connection wait for that: the
    rollback, and giving it back. A server that is frozen keeps its callers three times as long then.
    """

    execute = _or_end(asyncpg.Connection.execute)
    executemany = _or_end(asyncpg.Connection.executemany)
    fetch = _or_end(asyncpg.Connection.fetch)
    fetchrow = _or_end(asyncpg.Connection.fetchrow)
    fetchval = _or_end(asyncpg.Connection.fetchval)
    copy_records_to_table = _or_end(asyncpg.Connection.copy_records_to_table)


async def _teach_types(connection: Any) -> None:
    await register_vector(connection)
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: msgspec.json.encode(value).decode(),
        decoder=msgspec.json.decode,
    )


async def _keep_session(_: Any) -> None:
    """Ask the server nothing when a connection comes back; asyncpg itself ends an open transaction.

    No code leaves anything in a session: settings are SET LOCAL, and nobody listens or takes session locks.
    """
