"""Idempotency keys in Postgres."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from gateway.ports import HeldKey, KeyRow
from gateway.postgres import FREE_S, lend
from gateway.problems import unavailable

_INSERT: Final = """
INSERT INTO idempotency_keys (tenant, key, route, body_sha256) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant, key) DO NOTHING
"""

_FIND: Final = """
SELECT route, body_sha256, (extract(epoch FROM created_at) * 1000000)::bigint AS first_us
FROM idempotency_keys WHERE tenant = $1 AND key = $2
"""

_HOLD: Final = "SELECT response FROM idempotency_keys WHERE tenant = $1 AND key = $2 FOR UPDATE"

_KEEP: Final = "UPDATE idempotency_keys SET response = $3 WHERE tenant = $1 AND key = $2"


HELD_MAX: Final = 4
"""Keys that are held at once. Each takes a connection of the pool for as long as Kafka takes; more would starve reads
while Kafka is away."""


@dataclass(frozen=True, kw_only=True)
class PostgresKeyRows:
    """`KeyRows` on the table `idempotency_keys`."""

    pool: "asyncpg.Pool[Any]"
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(HELD_MAX), init=False)

    async def remember(self, tenant: str, key: str, *, route: str, body_sha256: bytes) -> KeyRow:
        """See `KeyRows.remember`. Committed before anything is made, so that a gateway that dies leaves it behind."""
        async with lend(self.pool) as connection:
            await connection.execute(_INSERT, tenant, key, route, body_sha256)
            row = await connection.fetchrow(_FIND, tenant, key)
        if row is None:
            raise _dropped(key)
        return KeyRow(route=row["route"], body_sha256=row["body_sha256"], first_us=row["first_us"])

    @asynccontextmanager
    async def holding(self, tenant: str, key: str) -> AsyncIterator[HeldKey]:
        """See `KeyRows.holding`; the row is locked."""
        async with self._place(), lend(self.pool) as connection, connection.transaction():
            row = await connection.fetchrow(_HOLD, tenant, key)
            if row is None:
                raise _dropped(key)
            yield _Held(connection=connection, tenant=tenant, key=key, response=row["response"])

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(FREE_S):
                await self._places.acquire()
        except TimeoutError as error:
            raise unavailable("Kafka", "too many requests with an Idempotency-Key wait for it") from error
        try:
            yield
        finally:
            self._places.release()


@dataclass(kw_only=True)
class _Held:
    connection: Any
    tenant: str
    key: str
    response: Any

    async def keep(self, response: Any) -> None:
        await self.connection.execute(_KEEP, self.tenant, self.key, response)
        self.response = response


def _dropped(key: str) -> Exception:
    return unavailable("Postgres", f"the idempotency key {key!r} has just become a day old and was dropped")
