"""Documents, chunks and vectors for the contract suites; vectors have four dimensions."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from schemas.events import Chunk, DocumentEmbedded
from schemas.ids import ChunkId, DocumentId, DocumentKey, Tenant, chunk_id
from streams.ports import Vectors
from streams.runtime.record import Origin

EAST: Final = (1.0, 0.0, 0.0, 0.0)
NORTH: Final = (0.0, 1.0, 0.0, 0.0)
UP: Final = (0.0, 0.0, 1.0, 0.0)


def key_of(document: str = "guide", *, tenant: str = "acme") -> DocumentKey:
    return DocumentKey(Tenant(tenant), DocumentId(document))


def origin(offset: int, *, partition: int = 0, topic_id: str = "t1") -> Origin:
    return Origin(topic="rag.ingest.v1", topic_id=topic_id, partition=partition, offset=offset)


def name_of(text: str, key: DocumentKey | None = None) -> ChunkId:
    """Return the id of the chunk that `embedded` makes of a text."""
    return chunk_id(key or key_of(), "structure", (), text, 0)


def vector(direction: Sequence[float]) -> Vectors:
    return np.array([direction], np.float32)


def packed(rows: Sequence[Sequence[float]]) -> str:
    return base64.b64encode(np.array(rows, "<f2").tobytes()).decode()


def embedded(
    version: int,
    chunks: Mapping[str, Sequence[float]],
    *,
    key: DocumentKey | None = None,
    acl: list[str] | None = None,
    collection: str = "default",
    metadata: dict[str, Any] | None = None,
    title: str | None = None,
) -> DocumentEmbedded:
    """Make one version of a document from text -> vector; each chunk is one sentence whose vector is the chunk's."""
    key = key or key_of()
    return DocumentEmbedded(
        tenant=key.tenant,
        document=key.document,
        version=version,
        generation="g1",
        chunker="structure",
        content_sha256="0" * 64,
        dim=4,
        chunks=[
            Chunk(
                id=name_of(text, key),
                ordinal=ordinal,
                text=text,
                start=100 * ordinal,
                end=100 * ordinal + len(text),
                headings=["Guide", "Start"],
                n_tokens=3,
                sentences=[(0, len(text))],
                page=ordinal + 1,
            )
            for ordinal, text in enumerate(chunks)
        ],
        vectors=packed(list(chunks.values())) if chunks else "",
        sentence_vectors=packed(list(chunks.values())) if chunks else "",
        collection=collection,
        metadata=metadata or {},
        acl=acl,
        title=title,
        submitted_ms=1,
    )
