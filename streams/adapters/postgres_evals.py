"""Evals in Postgres: one statement merges a part and raises the revision."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from schemas.ids import QueryId
from streams.adapters.postgres import Pool, lend
from streams.ports import Eval, EvalPart

_COLUMNS: Final = "revision, result, scores, feedback"

_MERGE: Final = f"""
INSERT INTO evals AS held (id, tenant, {{part}}) VALUES ($1, $2, $3)
ON CONFLICT (id) DO UPDATE SET {{part}} = excluded.{{part}}, revision = held.revision + 1, updated_at = now()
WHERE held.tenant = excluded.tenant AND {{changes}}
RETURNING {_COLUMNS}
"""

_CHANGES: Final[Mapping[EvalPart, str]] = {
    "result": "held.result IS DISTINCT FROM excluded.result",
    "scores": "held.scores IS DISTINCT FROM excluded.scores",
    "feedback": "(held.feedback IS NULL"
    " OR (excluded.feedback ->> 'feedback_ms')::bigint > (held.feedback ->> 'feedback_ms')::bigint)",
}

_READ: Final = f"SELECT {_COLUMNS} FROM evals WHERE id = $1 AND tenant = $2"


@dataclass(frozen=True, kw_only=True)
class PostgresEvals:
    """`EvalStore` on the table `evals`."""

    pool: "Pool[Any]"

    async def merge(self, query: QueryId, tenant: str, part: EvalPart, fields: Mapping[str, Any]) -> Eval | None:
        """See `EvalStore.merge`."""
        statement = _MERGE.format(part=part, changes=_CHANGES[part])
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(statement, query, tenant, fields)
            # no row comes back where nothing changed
            row = row or await connection.fetchrow(_READ, query, tenant)
        return None if row is None else Eval(**dict(row))

    async def read(self, query: QueryId, tenant: str) -> Eval | None:
        """See `EvalStore.read`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(_READ, query, tenant)
        return None if row is None else Eval(**dict(row))
