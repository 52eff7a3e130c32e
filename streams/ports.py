"""What handlers need from the world; adapters fulfil it, `wiring.py` chooses them, doubles pass the same contract
suites."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, NotRequired, Protocol, TypedDict

import numpy as np
import numpy.typing as npt

from schemas.events import Answer, Chunk, DocumentEmbedded, Filters, Hit, LifecycleChanged, Scores
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


class Applied(TypedDict):
    """The last record of a partition that was applied to a document; one that was rejected spent no version.

    `base_ms` of a patch is when the version was accepted that it changed, which is the one before.
    """

    offset: int
    version: int
    rejected: NotRequired[bool]
    base_ms: NotRequired[int]


Origins = Mapping[str, Applied]
"""What a document was made of: the last record applied of each place, `<topic id>/<partition>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Versioned:
    """What `DocumentStore.assign` decided.

    `outcome`: "fresh" (a new version), "again" (this very record was applied before, with this version: publish it
    again), "redelivered" (a later record of the same partition was applied already: drop this one),
    "overtaken" (a redriven record, whose document got another version since; `version` is that one), or "moved" (a
    patch of a version that is not the latest any more: make it of `version`, which is).
    `origins`: of the document, where the version is to be published.
    """

    version: int
    outcome: Literal["fresh", "again", "redelivered", "overtaken", "moved"]
    origins: Origins = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latest:
    """The latest version of a document.

    Attributes:
        version: at least 1.
        deleted: it deletes the document.
        accepted_ms: when it was given, by the clock of the store.
        submission: place of the submission that it was given to; None: the store does not tell.
        origins: of the document.
    """

    version: int
    deleted: bool
    accepted_ms: int
    submission: Origin | None
    origins: Origins = field(default_factory=dict, compare=False)


class DocumentStore(Protocol):
    """Versions of documents: the half of the fence that outlives deletes. All methods raise `Transient` when it is
    away."""

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
        """Give the record at `origin` its version of the document, in one transaction.

        Args:
            key: the document; its row is made on first sight.
            origin: place of the submitted record; remembered per (topic id, partition).
            deleted: the record deletes the document.
            attributes: title, uri, collection, metadata, acl, content_type, n_bytes for listing; empty for a delete.
            redriven: the record is sent again after it was given up, so `origin` is where it stood first. It gets a
                version only where the document got none since.
            base: of a patch, the version that it changes, at least 1; it gets a version only where that is the latest.
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

    async def latest(self, key: DocumentKey) -> Latest | None:
        """Return what is known of the newest version; None where no version was assigned."""
        ...

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
        """Take over a version that the log knows and a store restored from a backup does not.

        Args:
            key: the document.
            version: as the log has it.
            origins: as the log has them; what they name counts as applied.
            deleted: it deletes the document.
            attributes: as for `assign`.
            at_ms: when it was accepted.

        Returns:
            Whether anything was learnt; False: the store knew the version and where it comes from, or a newer one.
        """
        ...


class StatusProjection(Protocol):
    """The status of each document as readers see it, projected from lifecycle events in any order."""

    async def project(self, event: LifecycleChanged) -> None:
        """Apply one event; one that is older, by (version, rank of its status), changes nothing. Idempotent.

        What becomes of a version in a generation that does not answer changes nothing either.
        """
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


class QuestionVectors(Protocol):
    """Vectors of questions; tenants share none."""

    async def vector(self, tenant: str, text: str) -> Vectors:
        """Return the vector of a tenant's question; shape (1, dim), not to be written to.

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

    async def replace(self, document: DocumentEmbedded, *, whole: bool = False) -> bool:
        """Make this version live with exactly its chunks, in one transaction.

        Args:
            document: the version.
            whole: write every chunk and vector anew; else those that are held already under their id stay.

        Returns:
            False when a newer version is live or the document was deleted at a newer one; nothing changed then.
        """
        ...

    async def remove(self, key: DocumentKey, version: int) -> bool:
        """Delete the document at this version; False when a newer version is live. Idempotent."""
        ...


class Sink(Protocol):
    """One generation in a store beside Postgres that rankers search, written from the same log behind a fence of its
    own. Methods raise `Transient` when it is away."""

    async def replace(self, document: DocumentEmbedded) -> bool:
        """Hold this version with exactly its chunks. Idempotent.

        Returns:
            False when a newer version is held; nothing of this one stays then.
        """
        ...

    async def remove(self, key: DocumentKey, version: int) -> bool:
        """Hold nothing of the document but that it was deleted at this version; False when a newer one is held."""
        ...


class SunkVersions(Protocol):
    """Which versions stand in the sink of a generation: what coverage counts. Methods raise `Transient` when it is
    away."""

    async def sunk(self, key: DocumentKey, version: int) -> None:
        """The sink holds this version, or has taken the document out at it. An older one changes nothing."""
        ...

    async def forget(self) -> int:
        """The sink holds nothing any more; return how many documents it held."""
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
    """A chunk as it may be shown: read behind the serving fence.

    `sentence_vectors` has shape (n_sentences, dim); `page` counts from 1, None: the format has no pages.
    """

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
    page: int | None = None


class PassageStore(Protocol):
    """The serving fence: what may be shown."""

    async def passages(self, tenant: str, chunks: Sequence[ChunkId], filters: Filters) -> Mapping[ChunkId, Passage]:
        """Return those chunks that stand in the live version of a document that is not deleted and that the reader
        may read.

        Raises:
            Transient: the store is out of reach.
        """
        ...


# --- index generations ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """An index generation; only its state ever changes.

    Attributes:
        name: `[a-z0-9_]{1,48}`.
        chunker: whose chunks it holds.
        embedder: makes its vectors.
        dim: length of a vector; 0: not known yet, as the generation was only asked for.
        state: asked, following, paused, dropping, dropped or failed.
        lexical: what searches its words: tantivy or opensearch.
        vectors: what searches its vectors: pgvector or opensearch.
    """

    name: str
    chunker: str
    embedder: str
    dim: int
    state: str = "following"
    lexical: str = "tantivy"
    vectors: str = "pgvector"

    @property
    def in_opensearch(self) -> bool:
        """Whether it has an index in OpenSearch."""
        return "opensearch" in (self.lexical, self.vectors)


class Catalogue(Protocol):
    """The index generations that there are. Methods raise `Transient` when the store is away."""

    async def serving(self) -> str:
        """Return the name of the generation that answers.

        Raises:
            Fatal: there is none.
        """
        ...

    async def held(self) -> Sequence[Generation]:
        """Return those that hold documents, following or paused, the oldest first."""
        ...

    async def find(self, name: str) -> Generation | None:
        """Return one in any state."""
        ...


# --- questions ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A claim on a question: this process writes its answer while it renews the lease.

    Attributes:
        attempt: counts the claims, from 1.
        left_s: time until the question's deadline, seconds.
        cancel_asked_s: for how long its cancelling has been asked for, seconds; None: it has not.
        taken_over: another process held it before.
        lapses: how many workers let their lease of it lapse, as those do that die.
    """

    attempt: int
    left_s: float
    cancel_asked_s: float | None = None
    taken_over: bool = False
    lapses: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """A lease that goes on. `cancel_asked_s` is as in `Claimed`."""

    cancel_asked_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a question ends.

    Attributes:
        outcome: as in `QueryFinished`.
        terminal_seq: place of the last reply in its attempt; -1: it passes readers whatever its place.
        answer: of done; the text so far of cancelled.
        hits: passages that were found, best first.
        retrieve_ms: time that finding them took.
        reason: a short word for machines, of an error; `message` is a sentence for people.
    """

    outcome: Literal["done", "error", "cancelled"]
    terminal_seq: int
    answer: Answer | None = None
    hits: Sequence[Hit] = ()
    retrieve_ms: float | None = None
    reason: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A question that this process has ended, in which attempt and when; its replies and result are ours to publish."""

    attempt: int
    finished_ms: int


class QuestionStore(Protocol):
    """Rows of accepted questions, as one worker process sees them; all times are by the clock of the store.

    Every change is one compare-and-set. Methods raise `Transient` when the store is away.
    """

    async def claim(self, query: QueryId) -> Claimed | None:
        """Take the question, as its next attempt, for the time of a lease.

        Returns:
            None when it is unknown, rejected, ended, past its deadline, or held by another process whose lease goes on.
        """
        ...

    async def renew(self, query: QueryId, attempt: int) -> Renewed | None:
        """Begin the lease anew; None when the attempt has lost the question."""
        ...

    async def release(self, query: QueryId, attempt: int) -> None:
        """Give the question back, so that another process takes over at once; this is no lapse."""
        ...

    async def finish(self, query: QueryId, attempt: int, ending: Ending) -> Ended | None:
        """End the question that this attempt holds.

        Returns:
            None when the attempt has lost it, its deadline has passed, or it is `done` but shall be cancelled.
        """
        ...

    async def fail(self, query: QueryId, ending: Ending) -> Ended | None:
        """End a question with an error, whether it is claimed or not.

        Returns:
            None when it is unknown, rejected or ended, or held by another process whose lease goes on.
        """
        ...

    async def published(self, query: QueryId) -> None:
        """Note that replies and result of an ended question are acknowledged by Kafka; nobody publishes them again."""
        ...


class Cancellations(Protocol):
    """Nudges to look whether a question shall be cancelled; one may be lost."""

    def watching(self, query: QueryId) -> AbstractContextManager[asyncio.Event]:
        """Give an event that is set when the question is nudged; whoever looks then clears it."""
        ...


# --- scores and evals -----------------------------------------------------------------------------


class ScoreStore(Protocol):
    """Scores beside their question."""

    async def keep(self, query: QueryId, tenant: str, scores: Scores) -> Scores:
        """Store the scores of the tenant's question, unless it has some by the same scorer, and return those that hold.

        A question that is unknown to the store is left so.

        Raises:
            Transient: the store is away.
        """
        ...


EvalPart = Literal["result", "scores", "feedback"]
"""Where fields of an eval come from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eval:
    """One question as it is logged for trainers; each part holds fields of `EvalLogged`, None before it came.

    `revision` counts from 1 and rises with every change.
    """

    revision: int
    result: Mapping[str, Any] | None = None
    scores: Mapping[str, Any] | None = None
    feedback: Mapping[str, Any] | None = None


class EvalStore(Protocol):
    """One row per question, merged from parts that come in any order. Methods raise `Transient` when it is away."""

    async def merge(self, query: QueryId, tenant: str, part: EvalPart, fields: Mapping[str, Any]) -> Eval | None:
        """Put a part into the question's row, in one step, and return the row; its revision rises where that changes
        it.

        Feedback changes nothing unless its `feedback_ms` is later than that of the feedback there.

        Returns:
            None when the question belongs to another tenant; nothing changed then.
        """
        ...

    async def read(self, query: QueryId, tenant: str) -> Eval | None:
        """Return the row of the tenant's question; None when there is none."""
        ...
