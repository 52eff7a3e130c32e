"""Rebuilds in Postgres: what was asked for, the table that is rebuilt, and what lexical views are told."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from schemas.events import DocumentEmbedded
from schemas.ids import DocumentKey
from schemas.postgres.generation import chunks_table, make_table
from streams.adapters.lease import LEASE_S, leased
from streams.adapters.postgres import Pool, lend, transaction
from streams.adapters.postgres_generation import PostgresGeneration
from streams.adapters.postgres_views import SEEN_S
from streams.operator.rebuild import Rebuild

_NEXT: Final = """
UPDATE rebuilds SET state = 'running', began_at = coalesce(began_at, now()),
    lease_until = now() + make_interval(secs => $1)
WHERE id = (
    SELECT id FROM rebuilds
    WHERE state = 'asked' OR (state = 'running' AND lease_until < now())
    ORDER BY asked_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id::text, generation, sink, next, progress, lease_until
"""

# The document's live row and its chunks are written in one transaction, so one look sees both or neither.
_STRANGERS: Final = """
DELETE FROM {table} c WHERE NOT EXISTS (
    SELECT FROM live l WHERE l.generation = $1 AND (l.tenant, l.document) = (c.tenant, c.document) AND NOT l.deleted)
"""

_INCOMPLETE: Final = """
SELECT count(*) FROM live l
WHERE l.generation = $1 AND NOT l.deleted AND l.n_chunks <> (
    SELECT count(*) FROM {table} c WHERE (c.tenant, c.document) = (l.tenant, l.document))
"""

_VIEW_POLL_S: Final = 0.3
_LONG: Final = "SET LOCAL statement_timeout = '300s'"


@dataclass(frozen=True, kw_only=True)
class PostgresRebuilds:
    """`RebuildStore` on the table `rebuilds`."""

    pool: "Pool[Any]"

    @asynccontextmanager
    async def next(self) -> AsyncIterator[Rebuild | None]:
        """See `RebuildStore.next`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(_NEXT, LEASE_S)
        if row is None:
            yield None
            return
        async with leased(self.pool, "rebuilds", row["id"], row["lease_until"]):
            yield Rebuild(
                id=row["id"],
                generation=row["generation"],
                sink=row["sink"],
                next_offsets={int(partition): offset for partition, offset in row["next"].items()},
                progress=row["progress"],
            )

    async def progress(self, id: str, told: Mapping[str, Any], next_offsets: Mapping[int, int]) -> None:
        """See `RebuildStore.progress`."""
        async with lend(self.pool) as connection:
            await connection.execute(
                "UPDATE rebuilds SET progress = progress || $2, next = next || $3 WHERE id = $1 AND state = 'running'",
                id,
                dict(told),
                {str(partition): offset for partition, offset in next_offsets.items()},
            )

    async def finish(self, id: str, told: Mapping[str, Any], *, why: str | None = None) -> None:
        """See `RebuildStore.finish`."""
        async with lend(self.pool) as connection:
            await connection.execute(
                "UPDATE rebuilds SET state = $3, why = $4, finished_at = now(), progress = progress || $2 "
                "WHERE id = $1 AND state = 'running'",
                id,
                dict(told),
                "finished" if why is None else "failed",
                why,
            )


@dataclass(frozen=True, kw_only=True)
class RebuiltTable:
    """`Rebuilt` on the table of a generation.

    Attributes:
        generation: writes behind the fence.
    """

    generation: PostgresGeneration

    async def prepare(self) -> None:
        """See `Rebuilt.prepare`."""
        name, table = self.generation.generation, chunks_table(self.generation.generation)
        async with transaction(self.generation.pool) as connection:
            await make_table(connection, name, self.generation.dim)
            await connection.execute(_LONG)
            # first, for a chunk that is held under another document is written for neither
            await connection.execute(_STRANGERS.format(table=table), name)

    async def put(self, event: DocumentEmbedded) -> bool:
        """See `Rebuilt.put`."""
        return await self.generation.replace(event, whole=True)

    async def remove(self, key: DocumentKey, version: int) -> bool:
        """See `Rebuilt.remove`."""
        return await self.generation.remove(key, version)

    async def finish(self) -> int:
        """See `Rebuilt.finish`."""
        name, table = self.generation.generation, chunks_table(self.generation.generation)
        async with transaction(self.generation.pool) as connection:
            await connection.execute(_LONG)
            return int(await connection.fetchval(_INCOMPLETE.format(table=table), name))


@dataclass(frozen=True, kw_only=True)
class PostgresRebuiltViews:
    """`Views` of one generation, told by rows of `lexical_views`."""

    pool: "Pool[Any]"
    generation: str

    async def alive(self) -> list[str]:
        """See `Views.alive`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(
                "SELECT worker FROM lexical_views "
                "WHERE generation = $1 AND seen_at > now() - make_interval(secs => $2) ORDER BY worker",
                self.generation,
                SEEN_S,
            )
        return [row["worker"] for row in rows]

    async def rebuild(self, worker: str, id: str) -> bool:
        """See `Views.rebuild`."""
        async with lend(self.pool) as connection:
            await connection.execute(
                "UPDATE lexical_views SET rebuild = $3 WHERE worker = $1 AND generation = $2",
                worker,
                self.generation,
                id,
            )
        while True:
            async with lend(self.pool) as connection:
                row = await connection.fetchrow(
                    "SELECT rebuilt::text, seen_at > now() - make_interval(secs => $3) AS alive FROM lexical_views "
                    "WHERE worker = $1 AND generation = $2",
                    worker,
                    self.generation,
                    SEEN_S,
                )
            if row is None or not row["alive"]:
                return False
            if row["rebuilt"] == id:
                return True
            await asyncio.sleep(_VIEW_POLL_S)
