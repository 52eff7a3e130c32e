"""One index generation in Postgres, written behind the fence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import msgspec
from pgvector import HalfVector

from schemas.events import DocumentEmbedded
from schemas.ids import ChunkId, DocumentId, DocumentKey, Tenant
from schemas.postgres.generation import chunks_table
from streams.adapters import float16
from streams.adapters.postgres import Connection, Pool, lend, transaction
from streams.errors import Unprocessable
from streams.ports import Vectors

_LOCK_DOCUMENT: Final = """
SELECT latest_version, deleted_version FROM documents WHERE tenant = $1 AND document = $2 FOR UPDATE
"""

# Only a database restored from a backup lacks what its topics know: then they teach it.
_LEARN_DOCUMENT: Final = """
INSERT INTO documents AS d (tenant, document, latest_version, deleted, deleted_version)
VALUES ($1, $2, $3::bigint, $4::boolean, CASE WHEN $4 THEN $3 ELSE 0 END)
ON CONFLICT (tenant, document) DO UPDATE SET
    latest_version = $3, deleted = $4, deleted_version = CASE WHEN $4 THEN $3 ELSE d.deleted_version END
WHERE d.latest_version < $3
"""

_LOCK_LIVE: Final = """
SELECT version FROM live WHERE generation = $1 AND tenant = $2 AND document = $3 FOR UPDATE
"""

_SET_LIVE: Final = """
INSERT INTO live (generation, tenant, document, version, deleted, content_sha256, title, uri, collection, metadata, acl,
                  n_chunks)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (generation, tenant, document) DO UPDATE SET
    version = excluded.version, deleted = excluded.deleted, content_sha256 = excluded.content_sha256,
    title = excluded.title, uri = excluded.uri, collection = excluded.collection, metadata = excluded.metadata,
    acl = excluded.acl, n_chunks = excluded.n_chunks, indexed_at = now()
"""

_DROP_CHUNKS: Final = "DELETE FROM {table} WHERE tenant = $1 AND document = $2 AND chunk_id <> ALL ($3)"

# A chunk id stands for its text and headings, so a row that is there keeps them and its vectors. The last comparison
# lets no document write into another's chunks.
_PUT_CHUNKS: Final = """
INSERT INTO {table} AS c (tenant, document, collection, metadata, acl, chunk_id, ordinal, text, start_char, end_char,
                          headings, n_tokens, sentences, sentence_vectors, embedding, page)
SELECT $1::text, $2::text, $3::text, $4::jsonb, $5::text[], chunk_id, ordinal, text, start_char, end_char,
       headings::jsonb, n_tokens, sentences::jsonb, sentence_vectors, embedding, page
FROM unnest($6::text[], $7::int[], $8::text[], $9::int[], $10::int[], $11::text[], $12::int[], $13::text[],
            $14::bytea[], $15::halfvec[], $16::int[])
  AS n (chunk_id, ordinal, text, start_char, end_char, headings, n_tokens, sentences, sentence_vectors, embedding, page)
ON CONFLICT (chunk_id) DO UPDATE SET
    ordinal = excluded.ordinal, start_char = excluded.start_char, end_char = excluded.end_char, page = excluded.page,
    collection = excluded.collection, metadata = excluded.metadata, acl = excluded.acl
WHERE (c.ordinal, c.start_char, c.end_char, c.page, c.collection, c.metadata, c.acl) IS DISTINCT FROM
      (excluded.ordinal, excluded.start_char, excluded.end_char, excluded.page, excluded.collection, excluded.metadata,
       excluded.acl)
  AND (c.tenant, c.document) = (excluded.tenant, excluded.document)
"""

PUT_MAX_ROWS: Final = 500
"""Chunks written by one statement, so that a large document stays within the statement timeout."""

_KNOWN: Final = "SELECT chunk_id, embedding, sentence_vectors FROM {table} WHERE chunk_id = ANY ($1)"


@dataclass(frozen=True, kw_only=True)
class PostgresGeneration:
    """`GenerationStore` on the table of one generation and its rows of `live`.

    Attributes:
        pool: connections that know pgvector's types.
        generation: name of the generation; its table exists.
        dim: length of its vectors.
    """

    pool: "Pool[Any]"
    generation: str
    dim: int

    @cached_property
    def _table(self) -> str:
        return chunks_table(self.generation)

    async def known_vectors(self, chunks: Sequence[ChunkId]) -> Mapping[ChunkId, tuple[Vectors, Vectors]]:
        """See `GenerationStore.known_vectors`; float32, as exact as float16 is."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(_KNOWN.format(table=self._table), list(chunks))
        return {
            ChunkId(row["chunk_id"]): (
                float16.as_float32(row["embedding"].to_numpy().reshape(1, self.dim)),
                float16.as_float32(float16.matrix(row["sentence_vectors"], self.dim)),
            )
            for row in rows
        }

    async def replace(self, document: DocumentEmbedded, *, whole: bool = False) -> bool:
        """See `GenerationStore.replace`.

        Raises:
            Transient: Postgres is away.
            Unprocessable: another generation's record, or vectors that do not fit the chunks.
        """
        if (document.generation, document.dim) != (self.generation, self.dim):
            raise Unprocessable(
                "wrong_generation",
                f"vectors of generation {document.generation!r}, dim {document.dim}; "
                f"expected {self.generation!r}, dim {self.dim}",
            )
        columns = self._columns(document)
        key = DocumentKey(Tenant(document.tenant), DocumentId(document.document))
        async with transaction(self.pool) as connection:
            if not await self._may_write(connection, key, document.version, deleted=False):
                return False
            await self._set_live(
                connection,
                key,
                document.version,
                False,
                document.content_sha256,
                document.title,
                document.uri,
                document.collection,
                document.metadata,
                document.acl,
                len(document.chunks),
            )
            kept = [] if whole else columns[0]
            await connection.execute(_DROP_CHUNKS.format(table=self._table), key.tenant, key.document, kept)
            for start in range(0, len(document.chunks), PUT_MAX_ROWS):
                await connection.execute(
                    _PUT_CHUNKS.format(table=self._table),
                    key.tenant,
                    key.document,
                    document.collection,
                    document.metadata,
                    document.acl,
                    *(column[start : start + PUT_MAX_ROWS] for column in columns),
                )
        return True

    async def remove(self, key: DocumentKey, version: int) -> bool:
        """See `GenerationStore.remove`."""
        async with transaction(self.pool) as connection:
            if not await self._may_write(connection, key, version, deleted=True):
                return False
            await self._set_live(connection, key, version, True, None, None, None, "default", {}, None, 0)
            await connection.execute(_DROP_CHUNKS.format(table=self._table), key.tenant, key.document, [])
        return True

    async def _may_write(self, connection: "Connection[Any]", key: DocumentKey, version: int, *, deleted: bool) -> bool:
        """Lock both halves of the fence, documents first as everywhere, and compare."""
        known = await connection.fetchrow(_LOCK_DOCUMENT, key.tenant, key.document)
        if known is None or known["latest_version"] < version:
            await connection.execute(_LEARN_DOCUMENT, key.tenant, key.document, version, deleted)
            known = await connection.fetchrow(_LOCK_DOCUMENT, key.tenant, key.document)
        live = await connection.fetchrow(_LOCK_LIVE, self.generation, key.tenant, key.document)
        if live is not None and live["version"] > version:
            return False
        # A version from before the last delete stays out, though the document may be on its way back.
        return deleted or known is None or known["deleted_version"] < version

    async def _set_live(
        self, connection: "Connection[Any]", key: DocumentKey, version: int, deleted: bool, *attributes: Any
    ) -> None:
        await connection.execute(_SET_LIVE, self.generation, key.tenant, key.document, version, deleted, *attributes)

    def _columns(self, document: DocumentEmbedded) -> tuple[Sequence[Any], ...]:
        """Lay out the chunks as the arrays `$6` to `$16` of `_PUT_CHUNKS`."""
        chunks = document.chunks
        n_sentences = sum(len(chunk.sentences) for chunk in chunks)
        vectors = float16.decoded(document.vectors, rows=len(chunks), dim=self.dim, what="vectors")
        sentences = float16.by_chunk(
            float16.decoded(document.sentence_vectors, rows=n_sentences, dim=self.dim, what="sentence_vectors"), chunks
        )
        return (
            [chunk.id for chunk in chunks],
            [chunk.ordinal for chunk in chunks],
            [chunk.text for chunk in chunks],
            [chunk.start for chunk in chunks],
            [chunk.end for chunk in chunks],
            [_json(chunk.headings) for chunk in chunks],
            [chunk.n_tokens for chunk in chunks],
            [_json(chunk.sentences) for chunk in chunks],
            [rows.tobytes() for rows in sentences],
            # Bare arrays, like bare lists of JSON, would be taken for one array of two dimensions.
            [HalfVector(vector) for vector in vectors],
            [chunk.page for chunk in chunks],
        )


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
