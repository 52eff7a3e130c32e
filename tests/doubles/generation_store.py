"""One index generation in memory."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from schemas.events import Chunk, DocumentEmbedded
from schemas.ids import ChunkId, DocumentId, DocumentKey, Tenant
from streams.errors import Unprocessable
from streams.ports import Vectors
from tests.doubles.document_store import DocumentRow, MemoryDocuments


@dataclass(kw_only=True)
class LiveRow:
    """The version of a document that is served; `document` None once it is deleted."""

    version: int
    document: DocumentEmbedded | None


@dataclass(kw_only=True)
class ChunkRow:
    """A chunk as it is held."""

    key: DocumentKey
    chunk: Chunk
    vector: Vectors
    sentence_vectors: Vectors


def _rows(text: str, rows: int, dim: int, what: str) -> Vectors:
    raw = base64.b64decode(text)
    if len(raw) != rows * dim * 2:
        raise Unprocessable("bad_vectors", f"{what} holds {len(raw)} bytes; expected {rows} vectors of {dim}")
    return np.frombuffer(raw, "<f2").reshape(rows, dim).astype(np.float32)


@dataclass(kw_only=True)
class MemoryGeneration:
    """`GenerationStore` in memory, behind the same fence; `live` and `chunks` are what the other doubles read."""

    documents: MemoryDocuments = field(default_factory=MemoryDocuments)
    generation: str = "g1"
    dim: int = 4
    live: dict[DocumentKey, LiveRow] = field(default_factory=dict)
    chunks: dict[ChunkId, ChunkRow] = field(default_factory=dict)

    async def known_vectors(self, chunks: Sequence[ChunkId]) -> Mapping[ChunkId, tuple[Vectors, Vectors]]:
        held = {chunk: self.chunks[chunk] for chunk in chunks if chunk in self.chunks}
        return {chunk: (row.vector, row.sentence_vectors) for chunk, row in held.items()}

    async def replace(self, document: DocumentEmbedded, *, whole: bool = False) -> bool:
        if (document.generation, document.dim) != (self.generation, self.dim):
            raise Unprocessable("wrong_generation", f"vectors of {document.generation!r}, dim {document.dim}")
        n_sentences = [len(chunk.sentences) for chunk in document.chunks]
        vectors = _rows(document.vectors, len(document.chunks), self.dim, "vectors")
        sentences = _rows(document.sentence_vectors, sum(n_sentences), self.dim, "sentence_vectors")
        key = DocumentKey(Tenant(document.tenant), DocumentId(document.document))
        if not self._may_write(key, document.version, deleted=False):
            return False
        if whole:
            self._drop(key)
        names = [ChunkId(chunk.id) for chunk in document.chunks]
        held = {name: self.chunks[name] for name in names if name in self.chunks}
        self._drop(key)
        self.live[key] = LiveRow(version=document.version, document=document)
        ends = np.cumsum([0, *n_sentences])
        for i, (name, chunk) in enumerate(zip(names, document.chunks, strict=True)):
            known = held.get(name)
            if known is not None and known.key != key:
                continue
            self.chunks[name] = ChunkRow(
                key=key,
                chunk=chunk,
                vector=known.vector if known else vectors[i : i + 1],
                sentence_vectors=known.sentence_vectors if known else sentences[ends[i] : ends[i + 1]],
            )
        return True

    async def remove(self, key: DocumentKey, version: int) -> bool:
        if not self._may_write(key, version, deleted=True):
            return False
        self._drop(key)
        self.live[key] = LiveRow(version=version, document=None)
        return True

    def _may_write(self, key: DocumentKey, version: int, *, deleted: bool) -> bool:
        row = self.documents.rows.setdefault(key, DocumentRow())
        if row.latest_version < version:
            row.latest_version, row.deleted = version, deleted
            if deleted:
                row.deleted_version = version
        live = self.live.get(key)
        if live is not None and live.version > version:
            return False
        return deleted or row.deleted_version < version

    def _drop(self, key: DocumentKey) -> None:
        live = self.live.get(key)
        for chunk in live.document.chunks if live and live.document else ():
            row = self.chunks.get(ChunkId(chunk.id))
            if row is not None and row.key == key:
                del self.chunks[ChunkId(chunk.id)]
