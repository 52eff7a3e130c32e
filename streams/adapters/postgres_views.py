"""Lexical views in Postgres: what a view tells of itself, and what verifications hear of all views."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from schemas.ids import DocumentId, DocumentKey, Tenant
from schemas.postgres.generation import chunks_table
from streams.adapters.postgres import Pool, lend, transaction
from streams.operator.drift import Difference
from streams.operator.views import Chunks, Served

SEEN_S: Final = 15.0
"""A view that has said nothing for so long is not waited for."""

_PAGE: Final = """
SELECT l.tenant, l.document, l.version, l.deleted, greatest(d.latest_version, l.version) AS latest,
       ARRAY(SELECT c.chunk_id FROM {table} c WHERE (c.tenant, c.document) = (l.tenant, l.document)) AS chunks
FROM live l LEFT JOIN documents d ON (d.tenant, d.document) = (l.tenant, l.document)
WHERE l.generation = $1 AND (l.tenant, l.document) > ($2, $3)
ORDER BY l.tenant, l.document LIMIT $4
"""

_SEEN: Final = """
INSERT INTO lexical_views (worker, generation, seen_at) VALUES ($1, $2, now())
ON CONFLICT (worker, generation) DO UPDATE SET seen_at = excluded.seen_at
"""

_NEXT: Final = """
SELECT id::text FROM verifications v
WHERE state IN ('asked', 'running')
  AND NOT EXISTS (
      SELECT FROM view_answers a WHERE (a.verification, a.worker, a.generation) = (v.id, $1, $2))
ORDER BY asked_at LIMIT 1
"""

_PUT_FINDINGS: Final = """
INSERT INTO findings (verification, kind, generation, tenant, document, version, detail, seen_by)
SELECT $1, kind, $2, tenant, document, version, detail, $3
FROM unnest($4::text[], $5::text[], $6::text[], $7::bigint[], $8::text[]) AS n (kind, tenant, document, version, detail)
ON CONFLICT DO NOTHING
"""

_FINDINGS: Final = """
SELECT kind, tenant, document, version, detail FROM findings f
WHERE verification = $1 AND generation = $2
  AND EXISTS (
      SELECT FROM view_answers a
      WHERE (a.verification, a.worker, a.generation) = (f.verification, f.seen_by, f.generation))
ORDER BY tenant, document, kind, seen_by
"""


@dataclass(frozen=True, kw_only=True)
class PostgresServed:
    """`ServedDocuments` of one generation."""

    pool: "Pool[Any]"
    generation: str

    async def page(self, after: DocumentKey | None, limit: int) -> Sequence[tuple[DocumentKey, Served]]:
        """See `ServedDocuments.page`."""
        behind = ("", "") if after is None else (after.tenant, after.document)
        async with lend(self.pool) as connection:
            rows = await connection.fetch(
                _PAGE.format(table=chunks_table(self.generation)), self.generation, *behind, limit
            )
        return [
            (
                DocumentKey(Tenant(row["tenant"]), DocumentId(row["document"])),
                Served(
                    live=row["version"],
                    deleted=row["deleted"],
                    latest=row["latest"],
                    chunks=Chunks.of(row["chunks"]),
                ),
            )
            for row in rows
        ]


@dataclass(frozen=True, kw_only=True)
class PostgresViewReports:
    """`ViewReports` and `ViewRebuilds` on `lexical_views`, `view_answers` and `findings`.

    Attributes:
        pool: connections.
        worker: whose view it is; no other living process has this name.
        generation: that it shows.
    """

    pool: "Pool[Any]"
    worker: str
    generation: str

    async def seen(self) -> None:
        """See `ViewReports.seen`; forgets views that were not seen for a day."""
        async with lend(self.pool) as connection:
            await connection.execute(_SEEN, self.worker, self.generation)
            await connection.execute("DELETE FROM lexical_views WHERE seen_at < now() - interval '1 day'")

    async def next(self) -> str | None:
        """See `ViewReports.next`."""
        async with lend(self.pool) as connection:
            found = await connection.fetchval(_NEXT, self.worker, self.generation)
        return None if found is None else str(found)

    async def answer(self, verification: str, differences: Sequence[Difference]) -> None:
        """See `ViewReports.answer`."""
        async with transaction(self.pool) as connection:
            await connection.execute(
                _PUT_FINDINGS,
                verification,
                self.generation,
                self.worker,
                [each.kind for each in differences],
                [each.key.tenant for each in differences],
                [each.key.document for each in differences],
                [each.version for each in differences],
                [each.detail for each in differences],
            )
            await connection.execute(
                "INSERT INTO view_answers (verification, worker, generation) VALUES ($1, $2, $3) "
                "ON CONFLICT DO NOTHING",
                verification,
                self.worker,
                self.generation,
            )

    async def rebuild(self) -> str | None:
        """See `ViewRebuilds.rebuild`."""
        async with lend(self.pool) as connection:
            found = await connection.fetchval(
                "SELECT rebuild::text FROM lexical_views "
                "WHERE worker = $1 AND generation = $2 AND rebuild IS DISTINCT FROM rebuilt",
                self.worker,
                self.generation,
            )
        return None if found is None else str(found)

    async def rebuilt(self, id: str) -> None:
        """See `ViewRebuilds.rebuilt`."""
        async with lend(self.pool) as connection:
            await connection.execute(
                "UPDATE lexical_views SET rebuilt = $3 WHERE worker = $1 AND generation = $2",
                self.worker,
                self.generation,
                id,
            )


@dataclass(frozen=True, kw_only=True)
class PostgresViews:
    """`Views` of one generation."""

    pool: "Pool[Any]"
    generation: str

    async def alive(self) -> Collection[str]:
        """See `Views.alive`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(
                "SELECT worker FROM lexical_views "
                "WHERE generation = $1 AND seen_at > now() - make_interval(secs => $2)",
                self.generation,
                SEEN_S,
            )
        return {row["worker"] for row in rows}

    async def answered(self, verification: str) -> Collection[str]:
        """See `Views.answered`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(
                "SELECT worker FROM view_answers WHERE verification = $1 AND generation = $2",
                verification,
                self.generation,
            )
        return {row["worker"] for row in rows}

    async def found(self, verification: str) -> Sequence[Difference]:
        """See `Views.found`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(_FINDINGS, verification, self.generation)
        return [
            Difference(
                kind=row["kind"],
                key=DocumentKey(Tenant(row["tenant"]), DocumentId(row["document"])),
                version=row["version"],
                detail=row["detail"],
            )
            for row in rows
        ]

    async def reissued(self, verification: str) -> None:
        """See `Views.reissued`."""
        async with lend(self.pool) as connection:
            await connection.execute(
                "UPDATE findings f SET reissued_at = now() WHERE verification = $1 AND generation = $2 AND EXISTS "
                "(SELECT FROM view_answers a WHERE (a.verification, a.worker, a.generation) = "
                "(f.verification, f.seen_by, f.generation))",
                verification,
                self.generation,
            )
