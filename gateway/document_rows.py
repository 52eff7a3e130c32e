"""Documents as Postgres knows them, always of one tenant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from gateway.auth import Caller
from gateway.ports import DocumentRow
from gateway.postgres import lend
from gateway.topic_id import TopicId

_COLUMNS: Final = """
SELECT d.document, d.collection, d.title, d.uri, d.status, d.deleted, d.latest_version, d.n_chunks, d.stage,
       d.failure_reason, d.failure_message, d.warnings, d.metadata, d.acl, d.content_type, d.n_bytes, d.accepted_at,
       d.updated_at, d.origins, l.version AS live_version,
       (d.acl IS NULL OR d.acl && $2::text[]) AS readable
FROM documents d
LEFT JOIN aliases a ON a.alias = $3
LEFT JOIN live l ON l.generation = a.generation AND l.tenant = d.tenant AND l.document = d.document
    AND NOT l.deleted AND l.version > d.deleted_version
WHERE d.tenant = $1
"""

_CONTENT: Final = """
SELECT l.content_sha256
FROM live l
JOIN aliases a ON a.generation = l.generation
JOIN documents d ON d.tenant = l.tenant AND d.document = l.document
WHERE a.alias = $3 AND l.tenant = $1 AND l.document = $4
  AND NOT l.deleted AND l.version > d.deleted_version
  AND (d.acl IS NULL OR d.acl && $2::text[]) AND (l.acl IS NULL OR l.acl && $2::text[])
"""


@dataclass(frozen=True, kw_only=True)
class PostgresDocumentRows:
    """`DocumentRows` on the tables `documents` and `live`.

    Attributes:
        alias: names the generation whose version counts as live.
        topic_id: of the ingest topic, whose offsets submissions speak of.
    """

    pool: "asyncpg.Pool[Any]"
    alias: str
    topic_id: TopicId

    async def find(self, caller: Caller, documents: Sequence[str]) -> dict[str, DocumentRow]:
        """See `DocumentRows.find`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(
                f"{_COLUMNS} AND d.document = ANY ($4)", caller.tenant, caller.groups, self.alias, list(documents)
            )
        topic_id = await self.topic_id()
        return {row["document"]: _document(row, topic_id) for row in rows}

    async def page(
        self, caller: Caller, *, collection: str | None, status: str | None, after: str, limit: int
    ) -> list[DocumentRow]:
        """See `DocumentRows.page`."""
        terms, values = ["d.document > $4", "(d.acl IS NULL OR d.acl && $2::text[])"], [after]
        for column, value in (("collection", collection), ("status", status)):
            if value is not None:
                values.append(value)
                terms.append(f"d.{column} = ${len(values) + 3}")
        if status != "deleted":
            terms.append("NOT d.deleted")
        statement = f"{_COLUMNS} AND {' AND '.join(terms)} ORDER BY d.document LIMIT {int(limit)}"
        async with lend(self.pool) as connection:
            rows = await connection.fetch(statement, caller.tenant, caller.groups, self.alias, *values)
        return [_document(row, None) for row in rows]

    async def content(self, caller: Caller, document: str) -> str | None:
        """See `DocumentRows.content`."""
        async with lend(self.pool) as connection:
            name: str | None = await connection.fetchval(_CONTENT, caller.tenant, caller.groups, self.alias, document)
        return name


def _document(row: Any, topic_id: str | None) -> DocumentRow:
    failure = None
    if row["status"] == "failed":
        failure = {"stage": row["stage"], "reason": row["failure_reason"], "message": row["failure_message"]}
    copied = ("collection", "title", "uri", "latest_version", "live_version", "n_chunks", "metadata", "content_type")
    attributes = {name: row[name] for name in copied} | {
        "failure": failure,
        "warnings": list(row["warnings"]),
        "acl": row["acl"],
        "n_bytes": row["n_bytes"],
        "accepted_at": row["accepted_at"],
        "updated_at": row["updated_at"],
    }
    return DocumentRow(
        id=row["document"],
        status=row["status"],
        deleted=row["deleted"],
        readable=row["readable"],
        attributes=attributes,
        applied=_applied(row["origins"], topic_id),
    )


def _applied(origins: dict[str, Any], topic_id: str | None) -> dict[int, int]:
    applied = {}
    for place, origin in origins.items():
        topic, _, partition = place.rpartition("/")
        if topic == topic_id:
            applied[int(partition)] = int(origin["offset"])
    return applied
