"""The status of documents in Postgres, projected from lifecycle events."""

from dataclasses import dataclass
from typing import Any, Final

from schemas.events import LifecycleChanged
from streams.adapters.postgres import Pool, lend
from streams.lifecycle.rank import STATUS_RANKS

_PROJECT: Final = """
UPDATE documents SET
    status = $4, status_version = $3, status_rank = $5, stage = $6, failure_reason = $7, failure_message = $8,
    n_chunks = coalesce($9, CASE WHEN status_version = $3 THEN n_chunks END), updated_at = now()
WHERE tenant = $1 AND document = $2 AND (status_version, status_rank) <= ($3, $5::smallint)
  AND ($10::text IS NULL OR $10 = (SELECT generation FROM aliases WHERE alias = $11))
"""

_WARN: Final = """
UPDATE documents SET
    warnings = CASE WHEN warnings_version < $3 THEN ARRAY[$4] ELSE array_append(warnings, $4) END,
    warnings_version = $3, updated_at = now()
WHERE tenant = $1 AND document = $2
  AND (warnings_version < $3 OR (warnings_version = $3 AND NOT $4 = ANY (warnings)))
"""


@dataclass(frozen=True, kw_only=True)
class PostgresStatus:
    """`StatusProjection` on the table `documents`.

    Attributes:
        pool: connections.
        alias: names the generation that answers.
    """

    pool: "Pool[Any]"
    alias: str

    async def project(self, event: LifecycleChanged) -> None:
        """See `StatusProjection.project`."""
        if event.status == "warned":
            async with lend(self.pool) as connection:
                await connection.execute(_WARN, event.tenant, event.document, event.version, event.message or "")
            return
        rank = STATUS_RANKS.get(event.status)
        # A failure at intake is written by `DocumentStore.reject`, which alone knows its place among the versions.
        if rank is None or (event.status == "failed" and event.stage == "intake"):
            return
        failed = event.status == "failed"
        async with lend(self.pool) as connection:
            await connection.execute(
                _PROJECT,
                event.tenant,
                event.document,
                event.version,
                event.status,
                rank,
                event.stage,
                event.reason if failed else None,
                event.message if failed else None,
                event.n_chunks,
                event.generation,
                self.alias,
            )
