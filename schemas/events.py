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

    Exactly one of `text`, `uri`, `content` and `patch` is given. `content` holds the bytes of a file (base64 in JSON),
    whose format `content_type` names; without it the format is told from `filename`, else from the bytes.

    `patch` is a JSON merge patch (RFC 7396) of `metadata`, `acl`, `title` and `collection`, and stands alone: the rest
    of the document stays as it is. `patch_groups` are the ACL groups of whoever asks for it, who must be able to read
    what is changed; None: that is not asked. Intake is updated before anyone sends patches: an older one gives them up.
    """

    text: str | None = None
    uri: str | None = None
    content: bytes | None = None
    filename: str | None = None
    title: str | None = None
    content_type: str | None = None
    collection: str = "default"
    metadata: dict[str, Any] = {}
    acl: list[str] | None = None
    patch: dict[str, Any] | None = None
    patch_groups: list[str] | None = None


class DocumentAccepted(Event, frozen=True, kw_only=True):
    """A checked document at one version; written by intake alone.

    `acl` None: every reader of the tenant; else only readers who hold one of these groups. A document that came as a
    file has its bytes in `content` (base64 in JSON) and an empty `text`.
    """

    tenant: str
    document: str
    version: int
    text: str
    content: bytes | None = None
    filename: str | None = None
    content_type: str
    collection: str = "default"
    title: str | None = None
    uri: str | None = None
    metadata: dict[str, Any] = {}
    acl: list[str] | None = None
    accepted_ms: int
    submitted_ms: int


class Chunk(Event, frozen=True, kw_only=True):
    """One stored piece of a document. `start`, `end` index the parsed text; `sentences` index `text` of the chunk.

    `page` counts from 1: where the chunk begins, in formats that have pages.
    """

    id: str
    ordinal: int
    text: str
    start: int
    end: int
    headings: list[str] = []
    n_tokens: int
    sentences: list[tuple[int, int]] = []
    page: int | None = None


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
    """What a reader may and wants to see; enforced inside every ranker. All of it must hold.

    `groups` are the reader's ACL groups. `metadata` maps a field to the values allowed for it (any one of them
    matches; a list
    in a document matches when it holds one of them). `where` is a condition as `schemas/conditions.py` describes it. A
    reader that does not know it would show what was not asked for, so workers that retrieve are updated before gateways
    that send it; an operator that a reader does not know fails the question.
    """

    groups: list[str] = []
    collection: str | None = None
    metadata: dict[str, list[str | int | float | bool]] = {}
    where: dict[str, Any] | None = None


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
    """One passage as it may be shown and cited. `start`, `end` index the document's parsed text; `page` as in `Chunk`.

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
    page: int | None = None


class EvidenceRetrieved(Event, frozen=True, kw_only=True):
    """The evidence for one question, best first.

    `groups` are the reader's ACL groups. `without` are rankers that were asked and were away.
    """

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
    groups: list[str] = []
    without: list[str] = []


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
    page: int | None = None


class Usage(Event, frozen=True, kw_only=True):
    """What an answer cost, in tokens of the model that wrote it (0 where no model ran).

    `estimated`: the endpoint did not count; the numbers are guessed from the texts.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    model: str = "extractive"
    estimated: bool = False


class Answer(Event, frozen=True, kw_only=True):
    """The whole answer. `abstained`: the documents do not say.

    `prompt` is the id of the prompt that a model was given (`answer@1`), `provider` the link of the chain that wrote
    the text (`extractive`, `openai`, `openai-small`, `openai-backup`); `n_invented_marks` counts citation marks that
    stood for no passage and were removed.
    """

    text: str
    citations: list[Citation] = []
    usage: Usage = Usage()
    abstained: bool = False
    prompt: str | None = None
    provider: str = "extractive"
    n_invented_marks: int = 0


class Scores(Event, frozen=True, kw_only=True):
    """How good an answer is, each from 0 to 1; None where it cannot be told.

    `faithfulness`: how well its sentences are supported by the passages that they cite. `relevance`: how well it speaks
    to the question. `scorer` names the method.
    """

    faithfulness: float | None = None
    relevance: float | None = None
    n_sentences: int = 0
    n_supported: int = 0
    scorer: str = ""


class Reply(Event, frozen=True, kw_only=True):
    """One event of an answer stream, in the answers topic.

    `type` is one of sources, hits, token, answer, done, error, cancelled, score. `seq` counts from 0 within an
    `attempt`; the sources of a question carry attempt 0. Scores come when they are made and have no place in that order
    (`seq` -1). One of the other fields is set, by type: `evidence` (sources, hits), `token`, `answer` (answer;
    cancelled, with the text so far), `error`, `scores`. Beside evidence, `without` names rankers that were asked and
    were away.
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
    scores: Scores | None = None
    without: list[str] = []


class Hit(Event, frozen=True, kw_only=True):
    """A passage that a question was answered from, by reference, with what the rankers gave; see `Evidence`."""

    document: str
    version: int
    chunk: str
    score: float
    scores: dict[str, float] = {}
    sentence_scores: list[float] = []


class QueryFinished(Event, frozen=True, kw_only=True):
    """How a question ended, published by whoever ended it; it may be published again, the same.

    `outcome` is done, error or cancelled. `hits` are the passages found, best first, empty where none were looked for.
    `answer` is set for done, and holds the text so far for cancelled.
    """

    query: str
    tenant: str
    text: str
    outcome: str
    attempt: int
    generation: str
    reply_partition: int
    asked_ms: int
    finished_ms: int
    user: str | None = None
    groups: list[str] = []
    hits: list[Hit] = []
    answer: Answer | None = None
    error: str | None = None
    message: str | None = None
    retrieve_ms: float | None = None


class QueryScored(Event, frozen=True, kw_only=True):
    """The scores of one answer."""

    query: str
    tenant: str
    attempt: int
    scores: Scores
    scored_ms: int


class FeedbackGiven(Event, frozen=True, kw_only=True):
    """What a reader thinks of an answer; a later one of the same question replaces it. `rating` is up or down."""

    query: str
    tenant: str
    rating: str
    given_ms: int
    comment: str | None = None
    correction: str | None = None
    user: str | None = None


class EvalLogged(Event, frozen=True, kw_only=True):
    """One question as trainers read it: flat, without text of documents, replaced whole as scores and feedback come.

    `revision` counts the replacements: of two rows of one question the higher one holds. `chunks`, `documents`,
    `chunk_scores` and the lists in `ranker_scores` are aligned, best passage first; NaN-free: a ranker that did not
    propose a chunk has None. `cited` are the chunks that the answer cites. `answer_sha256` names the answer's text.
    """

    query: str
    tenant: str
    revision: int
    question: str
    outcome: str
    attempt: int
    generation: str
    asked_ms: int
    finished_ms: int
    user: str | None = None
    chunks: list[str] = []
    documents: list[str] = []
    versions: list[int] = []
    chunk_scores: list[float] = []
    ranker_scores: dict[str, list[float | None]] = {}
    cited: list[str] = []
    answer_sha256: str | None = None
    answer_chars: int = 0
    abstained: bool = False
    provider: str | None = None
    model: str | None = None
    prompt: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    n_invented_marks: int = 0
    error: str | None = None
    retrieve_ms: float | None = None
    faithfulness: float | None = None
    relevance: float | None = None
    scorer: str | None = None
    rating: str | None = None
    comment: str | None = None
    correction: str | None = None
    feedback_ms: int | None = None


class ControlSent(Event, frozen=True, kw_only=True):
    """A nudge to look into Postgres; losing one delays, and loses nothing else.

    `kind` is cancel (of `query`), redrive, verify or gate. `tenant` is empty where it is no tenant's.
    """

    kind: str
    tenant: str
    query: str | None = None
