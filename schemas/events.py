"""Everything that travels in a topic, in the direction in which it flows.

Optional fields only are ever added. Sets that may grow (`content_type`, `stage`, `reason`, `type`) are `str`, so an
old reader
survives a new word. Times are milliseconds since the epoch (UTC); offsets of text count code points and are half-open.
"""

from typing import Any

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all events: immutable, keyword-only, defaults left off the wire; unknown fields are ignored."""


class DocumentSubmitted(Event, frozen=True, kw_only=True):
    """What anyone sends to the ingest topic: `{"text": "..."}` is enough. A null value deletes the document.

    Exactly one of `text` and `uri` is given.
    """

    text: str | None = None
    uri: str | None = None
    title: str | None = None
    content_type: str | None = None
    collection: str = "default"
    metadata: dict[str, Any] = {}
    acl: list[str] | None = None


class DocumentAccepted(Event, frozen=True, kw_only=True):
    """A checked document at one version; written by intake alone.

    `acl` None: every reader of the tenant; else only readers who hold one of these groups.
    """

    tenant: str
    document: str
    version: int
    text: str
    content_type: str
    collection: str = "default"
    title: str | None = None
    uri: str | None = None
    metadata: dict[str, Any] = {}
    acl: list[str] | None = None
    accepted_ms: int
    submitted_ms: int


class Chunk(Event, frozen=True, kw_only=True):
    """One stored piece of a document. `start`, `end` index the parsed text; `sentences` index `text` of the chunk."""

    id: str
    ordinal: int
    text: str
    start: int
    end: int
    headings: list[str] = []
    n_tokens: int
    sentences: list[tuple[int, int]] = []


class DocumentChunked(Event, frozen=True, kw_only=True):
    """All chunks of one document version, and the name (SHA-256) of its parsed text in the object store."""

    tenant: str
    document: str
    version: int
    chunker: str
    content_sha256: str
    chunks: list[Chunk]
    collection: str = "default"
    title: str | None = None
    uri: str | None = None
    metadata: dict[str, Any] = {}
    acl: list[str] | None = None
    submitted_ms: int


class DocumentEmbedded(Event, frozen=True, kw_only=True):
    """All chunks of one document version with their vectors: enough to rebuild every sink without a model.

    `vectors` is base64 of little-endian float16, shape (n_chunks, dim); `sentence_vectors` likewise with one row a
    sentence,
    in the order of chunks and of their sentences. Rows are L2-normalised.
    """

    tenant: str
    document: str
    version: int
    generation: str
    chunker: str
    content_sha256: str
    dim: int
    chunks: list[Chunk]
    vectors: str
    sentence_vectors: str
    collection: str = "default"
    title: str | None = None
    uri: str | None = None
    metadata: dict[str, Any] = {}
    acl: list[str] | None = None
    submitted_ms: int


class LifecycleChanged(Event, frozen=True, kw_only=True):
    """A document version reached a stage: accepted, chunked, embedded, indexed, deleted, superseded, failed or warned.

    `stage` is the stage that says so; `reason` is a short word for machines, `message` a sentence for people (failed,
    warned).
    """

    tenant: str
    document: str
    version: int
    status: str
    stage: str
    at_ms: int
    generation: str | None = None
    n_chunks: int | None = None
    reason: str | None = None
    message: str | None = None


class Filters(Event, frozen=True, kw_only=True):
    """What a reader may and wants to see; enforced inside every ranker.

    `groups` are the reader's ACL groups. `metadata` maps a field to the values allowed for it (any one of them
    matches; a list
    in a document matches when it holds one of them).
    """

    groups: list[str] = []
    collection: str | None = None
    metadata: dict[str, list[str | int | float | bool]] = {}


class QueryAsked(Event, frozen=True, kw_only=True):
    """A question (`kind` "answer") or a bare search (`kind` "search")."""

    query: str
    tenant: str
    text: str
    kind: str
    top_k: int
    reply_partition: int
    deadline_ms: int
    asked_ms: int
    generation: str
    filters: Filters = Filters()
    rankers: list[str] = msgspec.field(default_factory=lambda: ["hybrid"])
    user: str | None = None


class Evidence(Event, frozen=True, kw_only=True):
    """One passage as it may be shown and cited. `start`, `end` index the document's parsed text.

    `score` orders the passages, best first; `scores` holds one entry per ranker that proposed it. `sentences` index
    `text`;
    `sentence_scores` are cosines of question and sentence, in the same order.
    """

    document: str
    version: int
    chunk: str
    text: str
    start: int
    end: int
    score: float
    scores: dict[str, float] = {}
    title: str | None = None
    uri: str | None = None
    headings: list[str] = []
    collection: str = "default"
    metadata: dict[str, Any] = {}
    sentences: list[tuple[int, int]] = []
    sentence_scores: list[float] = []


class EvidenceRetrieved(Event, frozen=True, kw_only=True):
    """The evidence for one question, best first."""

    query: str
    tenant: str
    text: str
    reply_partition: int
    deadline_ms: int
    asked_ms: int
    generation: str
    evidence: list[Evidence]
    user: str | None = None
    retrieve_ms: float = 0.0


class Citation(Event, frozen=True, kw_only=True):
    """A place in a document that an answer's mark `[marker]` stands for. `quote` is the parsed text from `start` to
    `end`."""

    marker: int
    document: str
    chunk: str
    quote: str
    start: int
    end: int
    title: str | None = None
    uri: str | None = None


class Usage(Event, frozen=True, kw_only=True):
    """What an answer cost, in tokens of the model that wrote it (0 where no model ran)."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    model: str = "extractive"


class Answer(Event, frozen=True, kw_only=True):
    """The whole answer. `abstained`: the documents do not say."""

    text: str
    citations: list[Citation] = []
    usage: Usage = Usage()
    abstained: bool = False


class Reply(Event, frozen=True, kw_only=True):
    """One event of an answer stream, in the answers topic.

    `type` is one of sources, hits, token, answer, done, error, reset. `seq` counts from 0 within an `attempt`; the
    sources of a
    question carry attempt 0. One of the other fields is set, by type: `evidence` (sources, hits), `token`, `answer`,
    `error`.
    """

    query: str
    tenant: str
    type: str
    attempt: int
    seq: int
    evidence: list[Evidence] | None = None
    token: str | None = None
    answer: Answer | None = None
    error: str | None = None
    message: str | None = None
    elapsed_ms: float | None = None
