"""Leases on rows: whoever carries out what a row asks for renews its `lease_until`, and gives it back when it fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from streams.adapters.postgres import Pool, lend
from streams.errors import Transient

LEASE_S: Final = 30.0
_RELEASE_S: Final = 2.0


@dataclass
class _Lease:
    """Until when a row is this worker's, as Postgres wrote it."""

    until: datetime


@asynccontextmanager
async def leased(pool: "Pool[Any]", table: str, id: str, until: datetime) -> AsyncIterator[None]:
    """Renew the lease of a row while the block runs; a block that raises gives it back at once.

    Args:
        pool: connections.
        table: has `id`, `state` ('running' while leased) and `lease_until`.
        id: of the row.
        until: when its lease would lapse.
    """
    lease = _Lease(until=until)
    renewing = asyncio.create_task(_renew(pool, table, id, lease))
    try:
        yield
    except BaseException:
        renewing.cancel()
        await _release(pool, table, id, lease)
        raise
    finally:
        renewing.cancel()


async def _renew(pool: "Pool[Any]", table: str, id: str, lease: _Lease) -> None:
    renew = (
        f"UPDATE {table} SET lease_until = now() + make_interval(secs => $2) "
        "WHERE id = $1 AND state = 'running' AND lease_until = $3 RETURNING lease_until"
    )
    while True:
        await asyncio.sleep(LEASE_S / 3)
        with suppress(Transient):
            async with lend(pool) as connection:
                # None: it has ended, or lapsed and is another worker's
                lease.until = await connection.fetchval(renew, id, LEASE_S, lease.until) or lease.until


async def _release(pool: "Pool[Any]", table: str, id: str, lease: _Lease) -> None:
    """Let another round take it now; where Postgres is away, when the lease lapses."""
    with suppress(Transient, TimeoutError):
        async with asyncio.timeout(_RELEASE_S), lend(pool) as connection:
            await connection.execute(
                f"UPDATE {table} SET lease_until = now() WHERE id = $1 AND state = 'running' AND lease_until = $2",
                id,
                lease.until,
            )
