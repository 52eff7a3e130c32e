"""Rebuilds in Postgres, as the gateway asks for them and reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import uuid_utils

from gateway.postgres import lend

_COLUMNS: Final = "id::text, generation, sink, state, why, progress, asked_at, began_at, finished_at"


@dataclass(frozen=True, kw_only=True)
class PostgresRebuildRows:
    """`RebuildRows` on the table `rebuilds`."""

    pool: "asyncpg.Pool[Any]"

    async def ask(self, generation: str, *, sink: str, asked_by: str) -> Mapping[str, Any] | None:
        """See `RebuildRows.ask`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(
                "INSERT INTO rebuilds (id, generation, sink, asked_by) VALUES ($1, $2, $3, $4) "
                "ON CONFLICT (generation, sink) WHERE state IN ('asked', 'running') DO NOTHING "
                f"RETURNING {_COLUMNS}",
                str(uuid_utils.uuid7()),
                generation,
                sink,
                asked_by,
            )
        return None if row is None else dict(row)

    async def find(self, id: str) -> Mapping[str, Any] | None:
        """See `RebuildRows.find`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM rebuilds WHERE id = $1", id)
        return None if row is None else dict(row)

    async def latest(self, limit: int) -> Sequence[Mapping[str, Any]]:
        """See `RebuildRows.latest`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(
                f"SELECT {_COLUMNS} FROM rebuilds ORDER BY asked_at DESC, id DESC LIMIT $1", limit
            )
        return [dict(row) for row in rows]
