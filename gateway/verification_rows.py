"""Verifications in Postgres, as the gateway asks for them and reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
import uuid_utils

from gateway.postgres import lend

FINDINGS_PAGE: Final = 1_000
_COLUMNS: Final = "id::text, repair, state, why, progress, asked_at, finished_at"


@dataclass(frozen=True, kw_only=True)
class PostgresVerificationRows:
    """`VerificationRows` on the tables `verifications`, `findings` and the view `coverage`."""

    pool: "asyncpg.Pool[Any]"

    async def ask(self, *, repair: bool) -> Mapping[str, Any]:
        """See `VerificationRows.ask`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(
                f"INSERT INTO verifications (id, repair) VALUES ($1, $2) RETURNING {_COLUMNS}",
                str(uuid_utils.uuid7()),
                repair,
            )
        return dict(row or {})

    async def find(self, id: str, *, after: int, limit: int) -> Mapping[str, Any] | None:
        """See `VerificationRows.find`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM verifications WHERE id = $1", id)
            if row is None:
                return None
            findings = await connection.fetch(
                "SELECT kind, generation, tenant, document, version, detail, seen_by, reissued_at FROM findings "
                "WHERE verification = $1 ORDER BY tenant, document, generation, kind, seen_by OFFSET $2 LIMIT $3",
                id,
                after,
                limit,
            )
        return dict(row) | {"findings": [dict(each) for each in findings]}

    async def coverage(self) -> Sequence[Mapping[str, Any]]:
        """See `VerificationRows.coverage`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch("SELECT * FROM coverage ORDER BY generation")
        return [dict(row) for row in rows]
