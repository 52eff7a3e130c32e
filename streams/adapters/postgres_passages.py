"""The serving fence in Postgres: reads what may be shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import asyncpg

from schemas.events import Filters
from schemas.ids import ChunkId
from schemas.postgres.generation import chunks_table
from streams.adapters import float16
from streams.adapters.postgres import Pool, lend
from streams.adapters.postgres_filters import condition
from streams.ports import Passage

_READ: Final = """
SELECT c.chunk_id, c.document, c.ordinal, c.text, c.start_char, c.end_char, c.headings, c.sentences, c.sentence_vectors,
       c.collection, c.metadata, c.page, l.version, l.title, l.uri
FROM {table} c
JOIN live l ON l.generation = $2 AND l.tenant = c.tenant AND l.document = c.document
JOIN documents d ON d.tenant = c.tenant AND d.document = c.document
WHERE c.chunk_id = ANY ($1) AND NOT l.deleted AND l.version > d.deleted_version
  AND (d.acl IS NULL OR d.acl && $3::text[]) AND {condition}
"""


@dataclass(frozen=True, kw_only=True)
class PostgresPassages:
    """`PassageStore` on a generation's table, `live` and `documents`.

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

    async def passages(self, tenant: str, chunks: Sequence[ChunkId], filters: Filters) -> Mapping[ChunkId, Passage]:
        """See `PassageStore.passages`; one statement, so all of it is of one moment."""
        where, parameters = condition(tenant, filters, first=4, table="c")
        async with lend(self.pool) as connection:
            rows = await connection.fetch(
                _READ.format(table=self._table, condition=where),
                list(chunks),
                self.generation,
                filters.groups,
                *parameters,
            )
        return {ChunkId(row["chunk_id"]): self._passage(row) for row in rows}

    def _passage(self, row: "asyncpg.Record") -> Passage:
        return Passage(
            chunk=ChunkId(row["chunk_id"]),
            document=row["document"],
            version=row["version"],
            ordinal=row["ordinal"],
            text=row["text"],
            start=row["start_char"],
            end=row["end_char"],
            headings=row["headings"],
            sentences=[(start, end) for start, end in row["sentences"]],
            sentence_vectors=float16.as_float32(float16.matrix(row["sentence_vectors"], self.dim)),
            title=row["title"],
            uri=row["uri"],
            collection=row["collection"],
            metadata=row["metadata"],
            page=row["page"],
        )
