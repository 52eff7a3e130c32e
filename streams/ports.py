"""What handlers need from the world; adapters fulfil it, `wiring.py` chooses them, doubles pass the same contract
suites."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from schemas.events import Answer, Chunk, DocumentEmbedded, Filters, LifecycleChanged
from schemas.ids import ChunkId, DocumentKey, QueryId
from streams.runtime.record import Origin

Vectors = npt.NDArray[np.float32]
"""float32, shape (n, dim); rows are L2-normalised, so a dot product is a cosine."""


class Clock(Protocol):
    """Tells the time."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch (UTC)."""
        ...


# --- documents and versions -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Versioned:
    """What `DocumentStore.assign` decided.

    `outcome`: "fresh" (a new version), "again" (this very record was applied before, with this version: publish it
    again), or
    "redelivered" (a later record of the same partition was applied already: drop this one).
    """

    version: int
    outcome: Literal["fresh", "again", "redelivered"]


class DocumentStore(Protocol):
    """Versions of documents: the half of the fence that outlives deletes. All methods raise `Transient` when it is
    away."""

    async def assign(
        self, key: DocumentKey, origin: Origin, *, deleted: bool, attributes: Mapping[str, Any]
    ) -> Versioned:
        """Give the record at `origin` its version of the document, in one transaction.

        Args:
            key: the document; its row is made on first sight.
            origin: place of the submitted record; remembered per (topic id, partition).
            deleted: the record deletes the document.
            attributes: title, uri, collection, metadata, acl, content_type, n_bytes for listing; empty for a delete.
        """
        ...

    async def reject(self, key: DocumentKey, origin: Origin, *, reason: str, message: str) -> int | None:
        """Remember that the record at `origin` became no version, and let the document's status say why.

        No version is spent, so an older one stays live and one on its way still arrives. A later accepted version
        replaces the status.

        Returns:
            The version that the status speaks of (0: nothing was accepted yet); None when a later record was applied
            already, and nothing changed.
        """
        ...

    def holding_latest(self, key: DocumentKey, version: int) -> AbstractAsyncContextManager[bool]:
        """Lock the document while its owner publishes; gives False when a newer version exists (publish nothing
        then)."""
        ...

    async def latest_version(self, key: DocumentKey) -> int | None:
        """Return the newest version assigned; None for an unknown document."""
        ...


class StatusProjection(Protocol):
    """The status of each document as readers see it, projected from lifecycle events in any order."""

    async def project(self, event: LifecycleChanged) -> None:
        """Apply one event; one that is older, by (version, rank of its status), changes nothing. Idempotent."""
        ...


# --- chunks and vectors ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """Vectors of chunks: `chunks` has shape (n_chunks, dim); `sentences[i]` has shape (n_sentences of chunk i, dim)."""

    chunks: Vectors
    sentences: Sequence[Vectors]


class Encoder(Protocol):
    """Turns text into vectors."""

    dim: int
    name: str

    async def encode_query(self, text: str) -> Vectors:
        """Embed one question; shape (1, dim). Longer than the model's window: the tail is dropped.

        Raises:
            Transient: the model is overloaded or out of reach.
        """
        ...

    async def encode_chunks(self, chunks: Sequence[Chunk]) -> Encoded:
        """Embed heading path and text of chunks, and the sentences inside them, keeping their order; n >= 0.

        Raises:
            Transient: the model is overloaded or out of reach.
        """
        ...


class GenerationStore(Protocol):
    """One generation's table of chunks and vectors, written behind the fence. Methods raise `Transient` when it is
    away."""

    async def known_vectors(self, chunks: Sequence[ChunkId]) -> Mapping[ChunkId, tuple[Vectors, Vectors]]:
        """Return (vector of shape (1, dim), sentence vectors of shape (n, dim)) of those chunk ids that are held
        already."""
        ...

    async def replace(self, document: DocumentEmbedded) -> bool:
        """Make this version live with exactly its chunks, in one transaction.

        Returns:
            False when a newer version is live or the document was deleted at a newer one; nothing changed then.
        """
        ...

    async def remove(self, key: DocumentKey, version: int) -> bool:
        """Delete the document at this version; False when a newer version is live. Idempotent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A chunk that a ranker proposes. `score` is the ranker's own; higher is better."""

    chunk: ChunkId
    score: float


class DenseRanker(Protocol):
    """Nearest chunks by vector."""

    async def nearest(self, tenant: str, vector: Vectors, filters: Filters, limit: int) -> list[Candidate]:
        """Return at most `limit` chunks that the reader may see, best first; score is the cosine.

        Raises:
            Transient: the store is out of reach.
        """
        ...


class LexicalRanker(Protocol):
    """Best chunks by words (BM25)."""

    async def matching(self, tenant: str, text: str, filters: Filters, limit: int) -> list[Candidate]:
        """Return at most `limit` chunks that the reader may see, best first. Any text is a valid query.

        Raises:
            Transient: the index is not ready or out of reach.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A chunk as it may be shown: read behind the serving fence. `sentence_vectors` has shape (n_sentences, dim)."""

    chunk: ChunkId
    document: str
    version: int
    ordinal: int
    text: str
    start: int
    end: int
    headings: Sequence[str]
    sentences: Sequence[tuple[int, int]]
    sentence_vectors: Vectors
    title: str | None = None
    uri: str | None = None
    collection: str = "default"
    metadata: Mapping[str, Any] = field(default_factory=dict)


class PassageStore(Protocol):
    """The serving fence: what may be shown."""

    async def passages(self, tenant: str, chunks: Sequence[ChunkId], filters: Filters) -> Mapping[ChunkId, Passage]:
        """Return those chunks that stand in the live version of a document that is not deleted and that the reader
        may read.

        Raises:
            Transient: the store is out of reach.
        """
        ...


# --- questions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A claim on a question. `attempt` counts from 1. `answer` is set when the question was finished before."""

    attempt: int
    answer: Answer | None = None


class QuestionStore(Protocol):
    """Rows of accepted questions. Methods raise `Transient` when it is away."""

    async def claim(self, query: QueryId) -> Claimed | None:
        """Take the question; None when it is unknown, rejected, ended without an answer, or past its deadline."""
        ...

    async def finish(self, query: QueryId, attempt: int, answer: Answer) -> bool:
        """Store the answer by compare-and-set; False when the question has ended or another attempt took over."""
        ...

    async def fail(self, query: QueryId, reason: str, message: str) -> bool:
        """End the question with an error by compare-and-set; False when it has ended already."""
        ...
