"""What the tables hold of documents and of one generation's chunks, and the verifications that were asked for."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from schemas.ids import DocumentId, DocumentKey, Tenant
from schemas.postgres.generation import chunks_table
from streams.adapters.float16 import LITTLE_HALF
from streams.adapters.lease import LEASE_S, leased
from streams.adapters.postgres import Pool, lend
from streams.operator.drift import Contents, Difference, Row, Stored
from streams.operator.verify import Verification

_FETCHED: Final = 500

_ONLY: Final = "($1::text[] IS NULL OR (tenant, document) IN (SELECT * FROM unnest($1::text[], $2::text[])))"

_DOCUMENTS: Final = f"""
SELECT tenant, document, latest_version, deleted,
       status = 'failed' AND status_version = latest_version AS failed,
       status IN ('indexed', 'deleted') AND status_version = latest_version AS settled,
       coalesce(extract(epoch FROM now() - accepted_at), 0)::float8 AS age_s
FROM documents WHERE latest_version > 0 AND {_ONLY}
"""

_LIVE: Final = f"SELECT tenant, document, version, deleted FROM live WHERE generation = $3 AND {_ONLY}"

_CHUNKS: Final = f"""
SELECT tenant, document, chunk_id, text, start_char, end_char, headings, sentences, page, embedding, sentence_vectors,
       collection, metadata, acl
FROM {{table}} WHERE {_ONLY} ORDER BY tenant, document, ordinal
"""

_NEXT: Final = """
UPDATE verifications SET state = 'running', began_at = coalesce(began_at, now()),
    lease_until = now() + make_interval(secs => $1)
WHERE id = (
    SELECT id FROM verifications
    WHERE state = 'asked' OR (state = 'running' AND lease_until < now())
    ORDER BY asked_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id::text, repair, lease_until
"""

_FOUND: Final = """
INSERT INTO findings AS held (verification, kind, generation, tenant, document, version, detail, seen_by, reissued_at)
SELECT $1, kind, $2, tenant, document, version, detail, $3, CASE WHEN $4 THEN now() END
FROM unnest($5::text[], $6::text[], $7::text[], $8::bigint[], $9::text[])
  AS n (kind, tenant, document, version, detail)
ON CONFLICT (verification, tenant, document, generation, kind, seen_by) DO UPDATE SET
    reissued_at = coalesce(excluded.reissued_at, held.reissued_at)
"""


@dataclass(frozen=True, kw_only=True)
class PostgresDrift:
    """`TableSide` on one generation."""

    pool: "Pool[Any]"
    generation: str

    async def look(self, keys: Collection[DocumentKey] | None = None) -> Mapping[DocumentKey, Stored]:
        """See `TableSide.look`; the tables are read in one snapshot."""
        only = (None, None) if keys is None else ([key.tenant for key in keys], [key.document for key in keys])
        found: dict[DocumentKey, Stored] = {}
        async with lend(self.pool) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
            async for row in connection.cursor(_DOCUMENTS, *only, prefetch=_FETCHED):
                found[_key(row)] = Stored(
                    latest=row["latest_version"],
                    deleted=row["deleted"],
                    failed=row["failed"],
                    settled=row["settled"],
                    age_s=row["age_s"],
                )
            async for row in connection.cursor(_LIVE, *only, self.generation, prefetch=_FETCHED):
                stored = found.setdefault(_key(row), Stored())
                stored.live, stored.live_deleted = row["version"], row["deleted"]
            chunks = connection.cursor(_CHUNKS.format(table=chunks_table(self.generation)), *only, prefetch=_FETCHED)
            async for key, rows in _by_document(chunks):
                contents = await asyncio.to_thread(Contents.of, _rows(rows))
                found.setdefault(key, Stored()).contents = contents
        return found


async def _by_document(rows: Any) -> AsyncIterator[tuple[DocumentKey, list[Any]]]:
    key, held = None, []
    async for row in rows:
        if key is not None and key != _key(row):
            yield key, held
            held = []
        key = _key(row)
        held.append(row)
    if key is not None:
        yield key, held


def _key(row: Any) -> DocumentKey:
    return DocumentKey(Tenant(row["tenant"]), DocumentId(row["document"]))


def _rows(rows: Sequence[Any]) -> Iterator[Row]:
    for row in rows:
        yield Row(
            chunk=row["chunk_id"],
            text=row["text"],
            start=row["start_char"],
            end=row["end_char"],
            headings=row["headings"],
            sentences=row["sentences"],
            page=row["page"],
            vector=np.asarray(row["embedding"].to_numpy(), LITTLE_HALF).tobytes(),
            sentence_vectors=row["sentence_vectors"],
            collection=row["collection"],
            metadata=row["metadata"],
            acl=row["acl"],
        )


@dataclass(frozen=True, kw_only=True)
class PostgresVerifications:
    """`VerificationStore` on the tables `verifications` and `findings`."""

    pool: "Pool[Any]"

    @asynccontextmanager
    async def next(self) -> AsyncIterator[Verification | None]:
        """See `VerificationStore.next`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(_NEXT, LEASE_S)
        if row is None:
            yield None
            return
        async with leased(self.pool, "verifications", row["id"], row["lease_until"]):
            yield Verification(id=row["id"], repair=row["repair"])

    async def progress(self, id: str, told: Mapping[str, Any]) -> None:
        """See `VerificationStore.progress`."""
        async with lend(self.pool) as connection:
            await connection.execute("UPDATE verifications SET progress = progress || $2 WHERE id = $1", id, dict(told))

    async def found(
        self, id: str, generation: str, differences: Sequence[Difference], *, seen_by: str, reissued: bool
    ) -> None:
        """See `VerificationStore.found`."""
        async with lend(self.pool) as connection:
            await connection.execute(
                _FOUND,
                id,
                generation,
                seen_by,
                reissued,
                [each.kind for each in differences],
                [each.key.tenant for each in differences],
                [each.key.document for each in differences],
                [each.version for each in differences],
                [each.detail for each in differences],
            )

    async def finish(self, id: str, told: Mapping[str, Any], *, why: str | None = None) -> None:
        """See `VerificationStore.finish`."""
        async with lend(self.pool) as connection:
            await connection.execute(
                "UPDATE verifications SET state = $3, why = $4, finished_at = now(), progress = progress || $2 "
                "WHERE id = $1",
                id,
                dict(told),
                "finished" if why is None else "failed",
                why,
            )
