"""Gates in Postgres, as the gateway asks for them and reads them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import uuid_utils

from gateway.postgres import lend

_COLUMNS: Final = (
    "id::text, candidate, base, margin, state, why, progress, verdict, "
    "coalesce(verdict IN ('better', 'equal'), false) AS passed, reason, report, asked_at, finished_at"
)

_ASK: Final = f"""
INSERT INTO gates (id, candidate, base, tenant, margin, sets)
SELECT $1, $2, $3, $4, $5, $6
WHERE NOT EXISTS (SELECT FROM gates WHERE candidate = $2 AND state IN ('asked', 'running'))
RETURNING {_COLUMNS}
"""


@dataclass(frozen=True, kw_only=True)
class PostgresGateRows:
    """`GateRows` on the table `gates`."""

    pool: "asyncpg.Pool[Any]"

    async def generations(self) -> Collection[str]:
        """See `GateRows.generations`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch("SELECT generation FROM generations WHERE state IN ('following', 'paused')")
        return {row["generation"] for row in rows}

    async def ask(
        self, *, candidate: str, base: str, tenant: str, margin: float, sets: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """See `GateRows.ask`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(_ASK, str(uuid_utils.uuid7()), candidate, base, tenant, margin, dict(sets))
        return None if row is None else dict(row)

    async def latest(self, candidate: str) -> Mapping[str, Any] | None:
        """See `GateRows.latest`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(
                f"SELECT {_COLUMNS} FROM gates WHERE candidate = $1 ORDER BY asked_at DESC LIMIT 1", candidate
            )
        return None if row is None else dict(row)

    async def judged(self, candidate: str, base: str) -> Mapping[str, Any] | None:
        """See `GateRows.judged`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(
                "SELECT id::text, verdict, verdict IN ('better', 'equal') AS passed, reason, margin, "
                "extract(epoch FROM now() - finished_at)::float8 AS age_s "
                "FROM gates WHERE candidate = $1 AND base = $2 AND state = 'finished' "
                "ORDER BY asked_at DESC LIMIT 1",
                candidate,
                base,
            )
        return None if row is None else dict(row)

    async def cancel(self, candidate: str) -> bool:
        """See `GateRows.cancel`."""
        async with lend(self.pool) as connection:
            done = await connection.execute(
                "UPDATE gates SET state = 'cancelled', finished_at = now() "
                "WHERE candidate = $1 AND state IN ('asked', 'running')",
                candidate,
            )
        return bool(done != "UPDATE 0")
