"""The stores of the fence, put together in memory, on Postgres, and with a sink in OpenSearch beside them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import asyncpg

from schemas.events import DocumentEmbedded, Filters
from schemas.ids import ChunkId, DocumentKey
from streams.adapters.opensearch_index import OpensearchIndex
from streams.adapters.opensearch_rankers import OpensearchVectors
from streams.adapters.pgvector_ranker import PgvectorRanker
from streams.adapters.postgres_documents import PostgresDocuments
from streams.adapters.postgres_generation import PostgresGeneration
from streams.adapters.postgres_passages import PostgresPassages
from streams.adapters.postgres_status import PostgresStatus
from streams.ports import (
    Candidate,
    DenseRanker,
    DocumentStore,
    GenerationStore,
    PassageStore,
    StatusProjection,
    Vectors,
)
from tests.doubles.dense_ranker import MemoryDenseRanker
from tests.doubles.document_store import MemoryDocuments
from tests.doubles.generation_store import MemoryGeneration
from tests.doubles.passage_store import MemoryPassages
from tests.doubles.status_projection import MemoryStatus


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the row of a document says."""

    status: str
    status_version: int
    reason: str | None
    warnings: list[str]
    n_chunks: int | None


@dataclass(frozen=True, kw_only=True)
class Fence:
    """All ports that share the two rows; `shown` reads a document's status."""

    documents: DocumentStore
    status: StatusProjection
    generation: GenerationStore
    ranker: DenseRanker
    passages: PassageStore
    shown: Callable[[DocumentKey], Awaitable[Shown]]


def memory_fence() -> Fence:
    documents = MemoryDocuments()
    generation = MemoryGeneration(documents=documents)

    async def shown(key: DocumentKey) -> Shown:
        row = documents.rows[key]
        return Shown(
            status=row.status,
            status_version=row.status_version,
            reason=row.failure_reason,
            warnings=row.warnings,
            n_chunks=row.n_chunks,
        )

    return Fence(
        documents=documents,
        status=MemoryStatus(documents=documents),
        generation=generation,
        ranker=MemoryDenseRanker(generation=generation),
        passages=MemoryPassages(generation=generation),
        shown=shown,
    )


def postgres_fence(pool: "asyncpg.Pool[Any]", *, exact_max_rows: int | None = None) -> Fence:
    async def shown(key: DocumentKey) -> Shown:
        [row] = await pool.fetch(
            "SELECT status, status_version, failure_reason AS reason, warnings, n_chunks "
            "FROM documents WHERE tenant = $1 AND document = $2",
            key.tenant,
            key.document,
        )
        return Shown(**row)

    return Fence(
        documents=PostgresDocuments(pool=pool),
        status=PostgresStatus(pool=pool, alias="live"),
        generation=PostgresGeneration(pool=pool, generation="g1", dim=4),
        ranker=PgvectorRanker(pool=pool, generation="g1", exact_max_rows=exact_max_rows),
        passages=PostgresPassages(pool=pool, generation="g1", dim=4),
        shown=shown,
    )


@dataclass(frozen=True)
class Both:
    """A generation that is written to a second store, too."""

    first: GenerationStore
    index: OpensearchIndex

    async def known_vectors(self, chunks: Sequence[ChunkId]) -> Mapping[ChunkId, tuple[Vectors, Vectors]]:
        return await self.first.known_vectors(chunks)

    async def replace(self, document: DocumentEmbedded, *, whole: bool = False) -> bool:
        done = await self.first.replace(document, whole=whole)
        assert await self.index.replace(document) is done
        return done

    async def remove(self, key: DocumentKey, version: int) -> bool:
        done = await self.first.remove(key, version)
        assert await self.index.remove(key, version) is done
        return done


@dataclass(frozen=True)
class AtOnce:
    """A ranker on OpenSearch for which all that was written can be found."""

    ranker: OpensearchVectors
    index: OpensearchIndex

    async def nearest(self, tenant: str, vector: Vectors, filters: Filters, limit: int) -> list[Candidate]:
        await self.index.refresh()
        return await self.ranker.nearest(tenant, vector, filters, limit)


def opensearch_fence(index: OpensearchIndex) -> Fence:
    """The double, with nearest chunks from OpenSearch."""
    memory = memory_fence()
    ranker = AtOnce(OpensearchVectors(client=index.client, index=index.name), index)
    return replace(memory, generation=Both(memory.generation, index), ranker=ranker)
