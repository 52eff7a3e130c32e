"""Versions of documents in Postgres: the half of the fence that outlives deletes."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from schemas.ids import DocumentKey
from schemas.topics import INGEST
from streams.adapters.postgres import Pool, lend, transaction
from streams.lifecycle.rank import REJECTED_RANK, STATUS_RANKS
from streams.ports import Latest, Origins, Versioned
from streams.runtime.record import Origin

# One statement decides and writes: the conflicting row is locked, compared, and changed only for a later offset (or for
# the same one, when it was rejected before). The status is written along, so that nobody sees the new version with
# the status of the one before. A delete keeps collection and acl: who could not see the document shall not see it gone.
_ASSIGN: Final = """
INSERT INTO documents AS d (
    tenant, document, latest_version, deleted, deleted_version, origins,
    collection, title, uri, content_type, metadata, acl, n_bytes,
    status, status_version, status_rank, stage, warnings_version, accepted_at
) VALUES (
    $1, $2, 1, $5, CASE WHEN $5 THEN 1 ELSE 0 END,
    jsonb_build_object($3::text, jsonb_build_object('offset', $4::bigint, 'version', 1)),
    $6, $7, $8, $9, $10, $11, $12, $13, 1, $14, 'intake', 1, now()
)
ON CONFLICT (tenant, document) DO UPDATE SET
    latest_version = d.latest_version + 1,
    deleted = excluded.deleted,
    deleted_version = CASE WHEN $5 THEN d.latest_version + 1 ELSE d.deleted_version END,
    origins = d.origins || jsonb_build_object(
        $3::text, jsonb_build_object('offset', $4::bigint, 'version', d.latest_version + 1)
        || CASE WHEN $16::bigint IS NULL THEN '{}'
           ELSE jsonb_build_object('base_ms', (extract(epoch FROM d.accepted_at) * 1000)::bigint) END),
    collection = CASE WHEN $5 THEN d.collection ELSE excluded.collection END,
    acl = CASE WHEN $5 THEN d.acl ELSE excluded.acl END,
    title = excluded.title, uri = excluded.uri, content_type = excluded.content_type, metadata = excluded.metadata,
    n_bytes = excluded.n_bytes,
    status = excluded.status, status_version = d.latest_version + 1, status_rank = excluded.status_rank,
    stage = excluded.stage, failure_reason = NULL, failure_message = NULL, n_chunks = NULL,
    warnings = '{}', warnings_version = d.latest_version + 1, accepted_at = now(), updated_at = now()
WHERE (coalesce((d.origins -> $3 -> 'offset')::bigint, -1) < $4
       OR ((d.origins -> $3 -> 'offset')::bigint = $4 AND d.origins -> $3 ? 'rejected'))
  AND (NOT $15 OR coalesce((d.origins -> $3 -> 'version')::bigint, 0) = d.latest_version)
  AND coalesce($16::bigint, d.latest_version) = d.latest_version
RETURNING latest_version, origins
"""

_APPLIED: Final = """
SELECT (origins -> $3 -> 'offset')::bigint AS "offset", (origins -> $3 -> 'version')::bigint AS version,
       origins -> $3 ? 'rejected' AS rejected, latest_version, origins
FROM documents WHERE tenant = $1 AND document = $2
"""

# The place that the version was given to; where several say so, one of them was rejected since, and gave none.
_LATEST: Final = """
SELECT latest_version, deleted, (extract(epoch FROM accepted_at) * 1000)::bigint AS accepted_ms, origins, given.*
FROM documents d
LEFT JOIN LATERAL (
    SELECT place, (origin -> 'offset')::bigint AS "offset" FROM jsonb_each(d.origins) AS o (place, origin)
    WHERE (origin -> 'version')::bigint = d.latest_version AND NOT origin ? 'rejected' LIMIT 1
) AS given ON true
WHERE tenant = $1 AND document = $2 AND latest_version > 0
"""

# The record may have got a version before it failed (Kafka was away too long): that version has failed then.
_REJECT: Final = """
INSERT INTO documents AS d (tenant, document, origins, status, status_rank, stage, failure_reason, failure_message)
VALUES (
    $1, $2,
    jsonb_build_object($3::text, jsonb_build_object('offset', $4::bigint, 'version', 0, 'rejected', true)),
    'failed', $5, 'intake', $7, $8
)
ON CONFLICT (tenant, document) DO UPDATE SET
    origins = CASE WHEN (d.origins -> $3 -> 'offset')::bigint = $4 THEN d.origins ELSE d.origins || jsonb_build_object(
        $3::text, jsonb_build_object('offset', $4::bigint, 'version', d.latest_version, 'rejected', true)) END,
    status = 'failed', stage = 'intake', failure_reason = $7, failure_message = $8, updated_at = now(),
    status_rank = CASE WHEN (d.origins -> $3 -> 'offset')::bigint = $4 AND NOT d.origins -> $3 ? 'rejected'
                       THEN $6::smallint ELSE $5::smallint END
WHERE coalesce((d.origins -> $3 -> 'offset')::bigint, -1) < $4
   OR ((d.origins -> $3 -> 'offset')::bigint = $4
       AND (d.origins -> $3 -> 'version')::bigint = d.latest_version
       AND (d.origins -> $3 ? 'rejected' OR d.status_rank <= $6))
RETURNING latest_version
"""


# A row that an index stage taught knows the version, and not what it was made of.
_LEARN: Final = """
INSERT INTO documents AS d (
    tenant, document, latest_version, deleted, deleted_version, origins,
    collection, title, uri, content_type, metadata, acl, n_bytes,
    status, status_version, status_rank, stage, warnings_version, accepted_at
) VALUES (
    $1, $2, $3::bigint, $5::boolean, CASE WHEN $5 THEN $3 ELSE 0 END, $4::jsonb,
    $6, $7, $8, $9, $10, $11, $12, $13, $3, $14, 'intake', $3, to_timestamp($15::bigint / 1000.0)
)
ON CONFLICT (tenant, document) DO UPDATE SET
    latest_version = $3, deleted = $5, deleted_version = greatest(d.deleted_version, excluded.deleted_version),
    origins = d.origins || $4,
    collection = CASE WHEN $5 THEN d.collection ELSE excluded.collection END,
    acl = CASE WHEN $5 THEN d.acl ELSE excluded.acl END,
    title = excluded.title, uri = excluded.uri, content_type = excluded.content_type, metadata = excluded.metadata,
    n_bytes = excluded.n_bytes,
    status = excluded.status, status_version = $3, status_rank = excluded.status_rank, stage = excluded.stage,
    failure_reason = NULL, failure_message = NULL, n_chunks = NULL,
    warnings = '{}', warnings_version = $3, accepted_at = excluded.accepted_at, updated_at = now()
WHERE d.latest_version < $3
   OR (d.latest_version = $3 AND NOT EXISTS (
        SELECT FROM jsonb_each(d.origins) AS o (place, origin)
        WHERE (origin -> 'version')::bigint = $3 AND NOT origin ? 'rejected')
       AND $4 <> '{}')
RETURNING latest_version
"""


@dataclass(frozen=True, kw_only=True)
class PostgresDocuments:
    """`DocumentStore` on the table `documents`."""

    pool: "Pool[Any]"

    async def assign(
        self,
        key: DocumentKey,
        origin: Origin,
        *,
        deleted: bool,
        attributes: Mapping[str, Any],
        redriven: bool = False,
        base: int | None = None,
    ) -> Versioned:
        """See `DocumentStore.assign`; the status becomes `accepted`, or `deleted`, in the same transaction."""
        status = "deleted" if deleted else "accepted"
        place = f"{origin.topic_id}/{origin.partition}"
        async with lend(self.pool) as connection:
            given = await connection.fetchrow(
                _ASSIGN,
                key.tenant,
                key.document,
                place,
                origin.offset,
                deleted,
                attributes.get("collection", "default"),
                attributes.get("title"),
                attributes.get("uri"),
                attributes.get("content_type"),
                dict(attributes.get("metadata", {})),
                attributes.get("acl"),
                attributes.get("n_bytes", 0),
                status,
                STATUS_RANKS[status],
                redriven,
                base,
            )
            if given is not None:
                return Versioned(version=given["latest_version"], outcome="fresh", origins=given["origins"])
            [applied] = await connection.fetch(_APPLIED, key.tenant, key.document, place)
        if applied["offset"] == origin.offset and not applied["rejected"]:
            return Versioned(version=applied["version"], outcome="again", origins=applied["origins"])
        if redriven:
            return Versioned(version=applied["latest_version"], outcome="overtaken")
        if base is not None and (applied["offset"] is None or applied["offset"] <= origin.offset):
            return Versioned(version=applied["latest_version"], outcome="moved")
        return Versioned(version=applied["version"], outcome="redelivered")

    async def reject(self, key: DocumentKey, origin: Origin, *, reason: str, message: str) -> int | None:
        """See `DocumentStore.reject`."""
        async with lend(self.pool) as connection:
            version: int | None = await connection.fetchval(
                _REJECT,
                key.tenant,
                key.document,
                f"{origin.topic_id}/{origin.partition}",
                origin.offset,
                REJECTED_RANK,
                STATUS_RANKS["failed"],
                reason,
                message,
            )
        return version

    @asynccontextmanager
    async def holding_latest(self, key: DocumentKey, version: int) -> AsyncIterator[bool]:
        """See `DocumentStore.holding_latest`; a row lock, which ends with the block or with the process."""
        async with transaction(self.pool) as connection:
            latest = await connection.fetchval(
                "SELECT latest_version FROM documents WHERE tenant = $1 AND document = $2 FOR UPDATE",
                key.tenant,
                key.document,
            )
            yield latest is None or latest <= version

    async def latest(self, key: DocumentKey) -> Latest | None:
        """See `DocumentStore.latest`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(_LATEST, key.tenant, key.document)
        if row is None:
            return None
        submission = None
        if row["place"] is not None:
            topic_id, _, partition = row["place"].rpartition("/")
            submission = Origin(topic=INGEST.name, topic_id=topic_id, partition=int(partition), offset=row["offset"])
        return Latest(
            version=row["latest_version"],
            deleted=row["deleted"],
            accepted_ms=row["accepted_ms"] or 0,
            submission=submission,
            origins=row["origins"],
        )

    async def learn(
        self,
        key: DocumentKey,
        version: int,
        origins: Origins,
        *,
        deleted: bool,
        attributes: Mapping[str, Any],
        at_ms: int,
    ) -> bool:
        """See `DocumentStore.learn`; the status becomes `accepted`, or `deleted`, until lifecycle events say more."""
        status = "deleted" if deleted else "accepted"
        async with lend(self.pool) as connection:
            learnt = await connection.fetchval(
                _LEARN,
                key.tenant,
                key.document,
                version,
                dict(origins),
                deleted,
                attributes.get("collection", "default"),
                attributes.get("title"),
                attributes.get("uri"),
                attributes.get("content_type"),
                dict(attributes.get("metadata", {})),
                attributes.get("acl"),
                attributes.get("n_bytes", 0),
                status,
                STATUS_RANKS[status],
                at_ms,
            )
        return learnt is not None

    async def latest_version(self, key: DocumentKey) -> int | None:
        """See `DocumentStore.latest_version`."""
        async with lend(self.pool) as connection:
            version: int | None = await connection.fetchval(
                "SELECT latest_version FROM documents WHERE tenant = $1 AND document = $2", key.tenant, key.document
            )
        return version
