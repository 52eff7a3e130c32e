"""Requests and responses as JSON, with an example each."""

import base64
import binascii
import json
import math
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)

from schemas import conditions
from schemas.events import Answer, Citation, Evidence, FeedbackGiven, Scores
from schemas.formats import TAKEN
from schemas.ids import parse_document_id

DOCUMENTS_MAX: Final = 1_000
LOOKUP_MAX: Final = 500
METADATA_MAX_BYTES: Final = 64 * 1024
QUERY_MAX_CHARS: Final = 8_000
TOP_K_MAX: Final = 50
COMMENT_MAX_CHARS: Final = 4_000
CORRECTION_MAX_CHARS: Final = 16_000
_INT64: Final = 2**63


def _storable(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds a lone surrogate; send valid Unicode") from error
    if "\x00" in text:
        raise ValueError("holds a NUL character, which cannot be stored; remove it")
    return text


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("holds a lone surrogate; send valid Unicode") from error
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is blank; expected some text")
    return text


def _document_id(text: str) -> str:
    return parse_document_id(text)


def _https(uri: str) -> str:
    if not uri.startswith("https://"):
        raise ValueError("expected an https:// address; other schemes are not fetched, so send the text instead")
    return uri


def _from_base64(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error as error:
        raise ValueError(f"is not base64 ({error}); send the bytes of the file in standard base64") from error


def _to_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _not_empty(content: bytes) -> bytes:
    if not content:
        raise ValueError("is empty; expected the bytes of a file")
    return content


def _storable_json(value: dict[str, Any]) -> dict[str, Any]:
    _walk(value)
    n_bytes = len(json.dumps(value, ensure_ascii=False).encode())
    if n_bytes > METADATA_MAX_BYTES:
        raise ValueError(f"has {n_bytes} bytes as JSON; expected at most {METADATA_MAX_BYTES}")
    return value


def _flat(metadata: dict[str, Any]) -> dict[str, Any]:
    for name, value in metadata.items():
        if any(isinstance(item, list | dict) for item in (value if isinstance(value, list) else [value])):
            raise ValueError(f"field {name[:80]!r} is nested; expected a JSON scalar or a list of scalars")
    return metadata


def _walk(value: Any) -> None:
    match value:
        case dict():
            for name, inner in value.items():
                _storable(name)
                _walk(inner)
        case list():
            for inner in value:
                _walk(inner)
        case str():
            _storable(value)
        case bool() | None:
            pass
        case int():
            if not -_INT64 <= value < _INT64:
                raise ValueError(f"holds {value}, which is no 64-bit integer; send it as a string")
        case float():
            if not math.isfinite(value):
                raise ValueError(f"holds {value}, which is no JSON number")


def _condition(filters: dict[str, Any]) -> dict[str, Any]:
    conditions.parse(filters)
    return filters


def _names_values(name: str, value: Any) -> bool:
    return not name.startswith("$") and not isinstance(value, dict)


Name = Annotated[str, Field(min_length=1, max_length=256), AfterValidator(_storable)]
DocumentId = Annotated[str, AfterValidator(_document_id)]
Content = Annotated[
    bytes,
    BeforeValidator(_from_base64),
    AfterValidator(_not_empty),
    PlainSerializer(_to_base64, when_used="json"),
    WithJsonSchema({"type": "string", "contentEncoding": "base64"}),
]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")


# --- documents ------------------------------------------------------------------------------------


class SubmittedDocument(_Request):
    """A document to add or replace; exactly one of `text`, `uri` and `content`."""

    id: DocumentId | None = Field(None, description="1 to 512 bytes, unique in the tenant; made when left off")
    text: Annotated[str, AfterValidator(_unicode), AfterValidator(_not_blank)] | None = None
    uri: Annotated[str, Field(max_length=2048), AfterValidator(_storable), AfterValidator(_https)] | None = None
    content: Content | None = Field(None, description="the bytes of a file, in base64")
    filename: Annotated[str, Field(max_length=1024), AfterValidator(_storable)] | None = Field(
        None, description="of `content`; tells its format where `content_type` does not"
    )
    title: Annotated[str, Field(max_length=2000), AfterValidator(_storable)] | None = None
    content_type: Annotated[str, Field(max_length=255), AfterValidator(_storable)] | None = Field(
        None, description=f"told from filename or id, else from the bytes, when left off; taken are: {TAKEN}"
    )
    metadata: Annotated[dict[Name, Any], AfterValidator(_storable_json)] = Field(default_factory=dict)
    collection: Name = "default"
    acl: Annotated[list[Name], Field(min_length=1, max_length=1000)] | None = Field(
        None, description="groups that may read it; left off: every reader of the tenant"
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("text", "uri", "content") if getattr(self, name) is not None]
        if len(given) != 1:
            named = " and ".join(given) or "none"
            raise ValueError(f"expected exactly one of 'text', 'uri' and 'content'; {named} was given")
        return self


class IngestRequest(_Request):
    """Documents to add or replace."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "documents": [
                        {
                            "id": "manual/gates.md",
                            "text": "# Gates\n\nThe sluice gate opens at 4.2 metres.",
                            "title": "Gates",
                            "metadata": {"year": 2026},
                            "collection": "manuals",
                        }
                    ]
                }
            ]
        }
    )
    documents: list[SubmittedDocument] = Field(min_length=1, max_length=DOCUMENTS_MAX)

    @model_validator(mode="after")
    def _ids_once(self) -> Self:
        seen: set[str] = set()
        for document in self.documents:
            if document.id is not None and document.id in seen:
                raise ValueError(f"document id {document.id[:80]!r} comes twice; send each id once in a request")
            seen.add(document.id or "")
        return self


class DocumentPatch(_Request):
    """A JSON merge patch (RFC 7396) of a document: null takes a field away, what is left off stays as it is."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"metadata": {"year": 2027, "draft": None}, "acl": ["staff"]}]}
    )
    metadata: Annotated[dict[Name, Any], AfterValidator(_storable_json), AfterValidator(_flat)] | None = Field(
        None, description="fields to set; a field that is null is taken away"
    )
    acl: Annotated[list[Name], Field(min_length=1, max_length=1000)] | None = Field(
        None, description="groups that may read it, in place of those before; null: every reader of the tenant"
    )
    title: Annotated[str, Field(max_length=2000), AfterValidator(_storable)] | None = None
    collection: Name | None = Field(None, description="null: default")

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError(f"changes nothing; expected at least one of {', '.join(DocumentPatch.model_fields)}")
        return self

    def changes(self) -> dict[str, Any]:
        """Return what was sent, and nothing that was left off."""
        return self.model_dump(mode="json", exclude_unset=True)


class Receipt(BaseModel):
    """Kafka has the submission. `submission` names it, for look-ups; `url` shows what becomes of it."""

    id: str = Field(examples=["manual/gates.md"])
    url: str = Field(examples=["/v1/documents/manual%2Fgates.md"])
    submission: str = Field(examples=["3:1027"])


class IngestResponse(BaseModel):
    """One receipt a document, in the order of the request."""

    documents: list[Receipt]


class Failure(BaseModel):
    """Why the latest version failed."""

    stage: str | None = Field(examples=["chunk"])
    reason: str | None = Field(examples=["too_many_chunks"])
    message: str | None = Field(examples=["the document has 20,001 chunks; expected at most 20,000"])


class DocumentDescription(BaseModel):
    """A document. `status` is that of `latest_version`; `live_version` is what searches see (null: nothing yet)."""

    id: str = Field(examples=["manual/gates.md"])
    status: str = Field(
        description="submitted, accepted, chunked, embedded, indexed, deleted or failed; unknown in look-ups",
        examples=["indexed"],
    )
    collection: str | None = Field(None, examples=["manuals"])
    title: str | None = Field(None, examples=["Gates"])
    uri: str | None = None
    latest_version: int | None = Field(None, examples=[2])
    live_version: int | None = Field(None, examples=[2])
    n_chunks: int | None = Field(None, examples=[1])
    failure: Failure | None = None
    warnings: list[str] = Field(default_factory=list)
    metadata: dict[str, Any] = Field(default_factory=dict, examples=[{"year": 2026}])
    acl: list[str] | None = None
    content_type: str | None = Field(None, examples=["text/markdown"])
    n_bytes: int | None = Field(None, examples=[43])
    accepted_at: datetime | None = None
    updated_at: datetime | None = None


class DocumentPage(BaseModel):
    """Documents in order of id (by bytes); `next_cursor` is null on the last page."""

    documents: list[DocumentDescription]
    next_cursor: str | None = None


class LifecycleShown(BaseModel):
    """A document version has reached a stage; `reason` and `message` say why it failed or what it was warned of."""

    id: str = Field(examples=["manual/gates.md"])
    status: str = Field(examples=["indexed"])
    stage: str = Field(examples=["index"])
    version: int = Field(examples=[2])
    generation: str | None = Field(None, examples=["g1"])
    n_chunks: int | None = Field(None, examples=[4])
    reason: str | None = None
    message: str | None = None
    at: datetime


class LookedUp(_Request):
    """A document to look up, and the submission that is waited for."""

    id: DocumentId
    submission: str | None = Field(None, pattern=r"^\d{1,9}:\d{1,18}$", description="as in the receipt")


class LookupRequest(_Request):
    """Documents to look up."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"documents": [{"id": "manual/gates.md", "submission": "3:1027"}]}]}
    )
    documents: list[LookedUp] = Field(min_length=1, max_length=LOOKUP_MAX)


class LookupResponse(BaseModel):
    """One description a document, in the order of the request."""

    documents: list[DocumentDescription]


# --- questions ------------------------------------------------------------------------------------


class _Question(_Request):
    query: Annotated[
        str, Field(min_length=1, max_length=QUERY_MAX_CHARS), AfterValidator(_storable), AfterValidator(_not_blank)
    ]
    top_k: int = Field(8, ge=1, le=TOP_K_MAX, strict=True, description="passages to use")
    filters: Annotated[dict[str, Any], AfterValidator(_condition), Field(max_length=32)] = Field(
        default_factory=dict,
        description="condition on metadata: field -> the value, or the values any one of which, it must have, or "
        "operators ($eq, $ne, $in, $nin, $gt, $gte, $lt, $lte, $exists); $and, $or, $not join conditions",
        examples=[{"year": {"$gte": 2024}, "$or": [{"lang": ["en", "de"]}, {"lang": {"$exists": False}}]}],
    )
    collection: Name | None = None

    def metadata(self) -> dict[str, list[str | int | float | bool]]:
        """Return the filters that name values, with a list for every field."""
        return {
            name: value if isinstance(value, list) else [value]
            for name, value in self.filters.items()
            if _names_values(name, value)
        }

    def where(self) -> dict[str, Any] | None:
        """Return the other filters; None where there are none."""
        return {name: value for name, value in self.filters.items() if not _names_values(name, value)} or None


class QueryRequest(_Question):
    """A question."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"query": "At which level does the sluice gate open?", "filters": {"year": [2025, 2026]}}]
        }
    )
    user_id: Name | None = Field(None, description="who asks; kept with the question")
    stream: bool = Field(False, description="answer as server-sent events, as `Accept: text/event-stream` does")


class SearchRequest(_Question):
    """A bare search. With several rankers their results are fused; `hybrid` is dense and lexical fused."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "sluice gate", "top_k": 5, "rankers": ["hybrid"]}]}
    )
    rankers: Annotated[list[Literal["dense", "lexical", "hybrid"]], Field(min_length=1, max_length=3)] = ["hybrid"]


class Passage(BaseModel):
    """A place in a document; `start` and `end` count code points of its text (`/content`)."""

    document_id: str = Field(examples=["manual/gates.md"])
    chunk_id: str = Field(examples=["5f0c6a1e9d1b4c7f8a2e3d4c5b6a7988"])
    title: str | None = None
    uri: str | None = None
    headings: list[str] = Field(default_factory=list, examples=[["Gates"]])
    start: int = Field(examples=[9])
    end: int = Field(examples=[44])
    page: int | None = Field(None, description="where it begins, from 1, in formats that have pages")
    text: str = Field(examples=["The sluice gate opens at 4.2 metres."])
    score: float = Field(examples=[0.82])
    scores: dict[str, float] = Field(default_factory=dict, examples=[{"dense": 0.71, "lexical": 9.3}])

    @classmethod
    def of(cls, evidence: Evidence) -> "Passage":
        """Show evidence."""
        return cls(
            document_id=evidence.document,
            chunk_id=evidence.chunk,
            title=evidence.title,
            uri=evidence.uri,
            headings=evidence.headings,
            start=evidence.start,
            end=evidence.end,
            page=evidence.page,
            text=evidence.text,
            score=evidence.score,
            scores=evidence.scores,
        )


class SearchResponse(BaseModel):
    """Hits, best first. `latency_ms` counts from the acceptance of the request.

    `without` names rankers that were asked and were away: a search with them may find more.
    """

    hits: list[Passage]
    latency_ms: float = Field(examples=[11.4])
    without: list[str] = []


class CitationShown(BaseModel):
    """What the mark `[marker]` in the answer stands for; `quote` is the document's text from `start` to `end`."""

    marker: int = Field(examples=[1])
    document_id: str = Field(examples=["manual/gates.md"])
    chunk_id: str = Field(examples=["5f0c6a1e9d1b4c7f8a2e3d4c5b6a7988"])
    quote: str = Field(examples=["The sluice gate opens at 4.2 metres."])
    start: int = Field(examples=[9])
    end: int = Field(examples=[44])
    page: int | None = Field(None, description="of the passage, from 1, in formats that have pages")
    title: str | None = Field(None, examples=["Gates"])
    uri: str | None = None

    @classmethod
    def of(cls, citation: Citation) -> "CitationShown":
        """Show a citation."""
        return cls(
            marker=citation.marker,
            document_id=citation.document,
            chunk_id=citation.chunk,
            quote=citation.quote,
            start=citation.start,
            end=citation.end,
            page=citation.page,
            title=citation.title,
            uri=citation.uri,
        )


class UsageShown(BaseModel):
    """Tokens of the model that wrote the answer; 0 where no model ran."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    model: str = Field(examples=["extractive"])
    estimated: bool = Field(False, description="the model's endpoint did not count")


class AnswerShown(BaseModel):
    """An answer. `abstained`: the documents do not say."""

    id: str = Field(examples=["0199f0a4-7c1e-7cc0-8a55-0d8f9c3c7b11"])
    answer: str = Field(examples=["The sluice gate opens at 4.2 metres. [1]"])
    citations: list[CitationShown]
    usage: UsageShown
    abstained: bool = False
    provider: str = Field("extractive", description="what wrote the answer", examples=["openai"])
    prompt: str | None = Field(None, description="id of the prompt that a model was given", examples=["answer@1"])

    @classmethod
    def of(cls, query: str, answer: Answer) -> "AnswerShown":
        """Show an answer to a question."""
        usage = answer.usage
        return cls(
            id=query,
            answer=answer.text,
            citations=[CitationShown.of(citation) for citation in answer.citations],
            usage=UsageShown(
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
                model=usage.model,
                estimated=usage.estimated,
            ),
            abstained=answer.abstained,
            provider=answer.provider,
            prompt=answer.prompt,
        )


class QueryResponse(AnswerShown):
    """An answer, and how long it took from the acceptance of the question, ms."""

    latency_ms: float = Field(examples=[24.7])


class ScoresShown(BaseModel):
    """How good an answer is, from 0 to 1; null where it cannot be told."""

    faithfulness: float | None = Field(None, examples=[0.94], description="how well its sentences are supported")
    relevance: float | None = Field(None, examples=[0.81], description="how well it speaks to the question")
    n_sentences: int = Field(0, examples=[2])
    n_supported: int = Field(0, examples=[2])
    scorer: str = Field("", examples=["sentences@1"])

    @classmethod
    def of(cls, scores: Scores) -> "ScoresShown":
        """Show scores."""
        return cls(
            faithfulness=scores.faithfulness,
            relevance=scores.relevance,
            n_sentences=scores.n_sentences,
            n_supported=scores.n_supported,
            scorer=scores.scorer,
        )


class FeedbackRequest(_Request):
    """What a reader thinks of an answer. `correction` is what should have been answered."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"rating": "down", "comment": "It names the wrong gate.", "correction": "4.5 metres.", "user_id": "ada"}
            ]
        }
    )
    rating: Literal["up", "down"]
    comment: Annotated[str, Field(max_length=COMMENT_MAX_CHARS), AfterValidator(_storable)] | None = None
    correction: Annotated[str, Field(max_length=CORRECTION_MAX_CHARS), AfterValidator(_storable)] | None = None
    user_id: Name | None = Field(None, description="who says so")


class FeedbackShown(BaseModel):
    """What a reader thinks of an answer, as last said; `rating` is up or down."""

    rating: str = Field(examples=["up"])
    comment: str | None = None
    correction: str | None = None
    user_id: str | None = None

    @classmethod
    def of(cls, feedback: FeedbackGiven) -> "FeedbackShown":
        """Show feedback."""
        return cls(
            rating=feedback.rating, comment=feedback.comment, correction=feedback.correction, user_id=feedback.user
        )


class QueryError(BaseModel):
    """Why there is no answer."""

    reason: str = Field(examples=["deadline_exceeded"])
    message: str


class StoredQuery(BaseModel):
    """A question as it is kept. `state` is pending, claimed, finished or rejected.

    `outcome` of a finished one is done, error or cancelled; a cancelled one holds the text so far.
    """

    id: str = Field(examples=["0199f0a4-7c1e-7cc0-8a55-0d8f9c3c7b11"])
    query: str = Field(examples=["At which level does the sluice gate open?"])
    user_id: str | None = None
    state: str = Field(examples=["finished"])
    outcome: str | None = Field(None, examples=["done"])
    generation: str = Field(examples=["g1"])
    attempt: int = Field(examples=[1])
    answer: str | None = Field(None, examples=["The sluice gate opens at 4.2 metres. [1]"])
    citations: list[CitationShown] = Field(default_factory=list)
    usage: UsageShown | None = None
    abstained: bool | None = None
    error: QueryError | None = None
    scores: ScoresShown | None = None
    feedback: FeedbackShown | None = None
    created_at: datetime
    finished_at: datetime | None = None
    latency_ms: float | None = Field(None, examples=[24.7])
