"""Overdue versions of one generation, in Postgres."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from schemas.ids import DocumentId, DocumentKey, Tenant
from schemas.postgres.generation import chunks_table
from streams.adapters.postgres import Pool, lend
from streams.operator.overdue import Coverage, Overdue

PAUSE_MAX_S: Final = 86_400.0

# of a row d of documents; $1 is the generation
_SERVED: Final = """
(EXISTS (
    SELECT FROM live l
    WHERE (l.generation, l.tenant, l.document) = ($1, d.tenant, d.document)
      AND (l.version > d.latest_version OR (l.version = d.latest_version AND l.deleted = d.deleted))
      AND NOT (d.deleted AND EXISTS (
          SELECT FROM {table} c WHERE (c.tenant, c.document) = (d.tenant, d.document))))
 OR (d.deleted
     AND NOT EXISTS (SELECT FROM live l WHERE (l.generation, l.tenant, l.document) = ($1, d.tenant, d.document))
     AND NOT EXISTS (SELECT FROM {table} c WHERE (c.tenant, c.document) = (d.tenant, d.document))))
"""
_FAILED: Final = """
((d.status = 'failed' AND d.status_version = d.latest_version)
 OR EXISTS (
    SELECT FROM given_up u
    WHERE (u.generation, u.tenant, u.document, u.version) = ($1, d.tenant, d.document, d.latest_version)))
"""

# of a row r of reissues; $3 is the pause after the first
_PAUSED: Final = f"r.last_at > now() - make_interval(secs => least({PAUSE_MAX_S}, $3 * 2.0 ^ least(r.n - 1, 30)))"

# $2: a database that learnt a document from its topic knows no time of acceptance
_TAKE: Final = f"""
WITH due AS (
    SELECT d.tenant, d.document, d.latest_version
    FROM documents d
    WHERE d.latest_version > 0
      AND coalesce(d.accepted_at, d.updated_at) < now() - make_interval(secs => $2)
      AND NOT {_FAILED}
      AND NOT {_SERVED}
      AND NOT EXISTS (
          SELECT FROM reissues r
          WHERE (r.generation, r.tenant, r.document, r.version) = ($1, d.tenant, d.document, d.latest_version)
            AND {_PAUSED})
    ORDER BY coalesce(d.accepted_at, d.updated_at)
    LIMIT $4)
INSERT INTO reissues AS r (generation, tenant, document, version, n, last_at)
SELECT $1, tenant, document, latest_version, 1, now() FROM due
ON CONFLICT (generation, tenant, document) DO UPDATE SET
    n = CASE WHEN r.version = excluded.version THEN r.n + 1 ELSE 1 END,
    version = excluded.version,
    last_at = excluded.last_at
WHERE r.version <> excluded.version OR NOT {_PAUSED}
RETURNING tenant, document, version, n
"""

_SETTLE: Final = f"""
WITH ended AS (
    DELETE FROM reissues r USING documents d
    WHERE r.generation = $1 AND (d.tenant, d.document) = (r.tenant, r.document)
      AND (d.latest_version > r.version OR {_FAILED} OR {_SERVED})
    RETURNING d.latest_version = r.version AND {_SERVED} AS served)
SELECT count(*) FILTER (WHERE served) FROM ended
"""

_COVERAGE: Final = """
SELECT n_documents, n_covered, n_failed, (SELECT count(*) FROM reissues WHERE generation = $1) AS n_overdue
FROM coverage
WHERE generation = $1
"""


@dataclass(frozen=True, kw_only=True)
class PostgresOverdue:
    """`OverdueStore` on `documents`, `live`, `reissues` and the generation's chunks."""

    pool: "Pool[Any]"
    generation: str

    async def take(self, *, older_than_s: float, pause_s: float, limit: int) -> Sequence[Overdue]:
        """See `OverdueStore.take`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(self._of(_TAKE), self.generation, older_than_s, pause_s, limit)
        return [
            Overdue(
                key=DocumentKey(Tenant(row["tenant"]), DocumentId(row["document"])), version=row["version"], n=row["n"]
            )
            for row in rows
        ]

    async def settle(self) -> int:
        """See `OverdueStore.settle`."""
        async with lend(self.pool) as connection:
            return int(await connection.fetchval(self._of(_SETTLE), self.generation))

    async def coverage(self) -> Coverage:
        """See `OverdueStore.coverage`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(_COVERAGE, self.generation)
        return Coverage(**dict(row)) if row else Coverage(n_documents=0, n_covered=0, n_failed=0)

    def _of(self, statement: str) -> str:
        return statement.format(table=chunks_table(self.generation))
