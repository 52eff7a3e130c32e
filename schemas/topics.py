"""The topic table. Nothing else spells a topic's name; topics, JSON Schemas and the list in the docs are made from
it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta

from schemas import events

FOREVER = timedelta.max


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """One row: where records of one kind live, and how long.

    Attributes:
        name: as in Kafka. A template topic holds `{}` for the name of a chunker, generation or stage.
        event: what a non-null value decodes to; None where records are kept as they came.
        key: what the record key is, in words.
        partitions: number of partitions.
        retention: how long records are kept; FOREVER with `compacted`.
        compacted: the last record of each key is kept, whatever its age.
        about: one line for the docs.
    """

    name: str
    event: type[events.Event] | None
    key: str
    partitions: int
    retention: timedelta
    compacted: bool = False
    about: str

    def named(self, part: str) -> "Topic":
        """Fill the template with the name of a chunker, generation or stage."""
        return replace(self, name=self.name.format(part))


STAGES = (
    "intake",
    "chunk",
    "embed",
    "index",
    "index_opensearch",
    "lifecycle",
    "retrieve",
    "generate",
    "score",
    "evaluate",
    "operator",
)
"""Every stage, in the direction of flow. A stage's name is its folder, `--stages` word, metric label and dead-letter
topic."""

OPTIONAL_STAGES = frozenset({"index_opensearch"})
"""Those of stores that not every installation has: "all stages" leaves them out."""

INGEST = Topic(
    name="rag.ingest.v1",
    event=events.DocumentSubmitted,
    key="tenant/document",
    partitions=6,
    retention=timedelta(days=7),
    about="what anyone sends: a document, or null to delete it",
)
DOCUMENTS = Topic(
    name="rag.documents.v1",
    event=events.DocumentAccepted,
    key="tenant/document",
    partitions=6,
    retention=FOREVER,
    compacted=True,
    about="the checked, versioned document; null = deleted; written by intake alone",
)
CHUNKS = Topic(
    name="rag.chunks.{}.v1",
    event=events.DocumentChunked,
    key="tenant/document",
    partitions=6,
    retention=FOREVER,
    compacted=True,
    about="all chunks of one document version, per chunker",
)
EMBEDDINGS = Topic(
    name="rag.embeddings.{}.v1",
    event=events.DocumentEmbedded,
    key="tenant/document",
    partitions=6,
    retention=FOREVER,
    compacted=True,
    about="chunks with their vectors, per index generation",
)
LIFECYCLE = Topic(
    name="rag.lifecycle.v1",
    event=events.LifecycleChanged,
    key="tenant/document",
    partitions=6,
    retention=timedelta(days=7),
    about="what became of each document version, stage by stage",
)
QUERIES = Topic(
    name="rag.queries.v1",
    event=events.QueryAsked,
    key="query id",
    partitions=6,
    retention=timedelta(days=7),
    about="a question, or a bare search, with reply partition and deadline",
)
RETRIEVALS = Topic(
    name="rag.retrievals.v1",
    event=events.EvidenceRetrieved,
    key="query id",
    partitions=6,
    retention=timedelta(days=7),
    about="the evidence found, with scores per ranker",
)
ANSWERS = Topic(
    name="rag.answers.v1",
    event=events.Reply,
    key="query id, explicit partition",
    partitions=6,
    retention=timedelta(hours=24),
    about="answer streams: sources, tokens, answer and the terminal event",
)
RESULTS = Topic(
    name="rag.results.v1",
    event=events.QueryFinished,
    key="query id",
    partitions=6,
    retention=timedelta(days=30),
    about="how each question ended, by whoever ended it: what score and evaluate read",
)
SCORES = Topic(
    name="rag.scores.v1",
    event=events.QueryScored,
    key="query id",
    partitions=6,
    retention=timedelta(days=30),
    about="faithfulness and relevance of answers",
)
FEEDBACK = Topic(
    name="rag.feedback.v1",
    event=events.FeedbackGiven,
    key="query id",
    partitions=6,
    retention=timedelta(days=30),
    about="thumbs and corrections of readers",
)
EVALS = Topic(
    name="rag.evals.v1",
    event=events.EvalLogged,
    key="query id",
    partitions=6,
    retention=FOREVER,
    compacted=True,
    about="one flat row per question, replaced as scores and feedback come: what trainers read",
)
CONTROL = Topic(
    name="rag.control.v1",
    event=events.ControlSent,
    key="query id, or none",
    partitions=1,
    retention=timedelta(hours=24),
    about="nudges to look into Postgres (cancel), read by every process, without a group",
)
DEAD_LETTERS = Topic(
    name="rag.{}.dlq.v1",
    event=None,
    key="as source",
    partitions=1,
    retention=timedelta(days=30),
    about="untouched source records that a stage gave up on, with the reason in headers",
)

TOPICS = (
    INGEST,
    DOCUMENTS,
    CHUNKS,
    EMBEDDINGS,
    LIFECYCLE,
    QUERIES,
    RETRIEVALS,
    ANSWERS,
    RESULTS,
    SCORES,
    FEEDBACK,
    EVALS,
    CONTROL,
    DEAD_LETTERS,
)


def concrete(*, chunker: str, generation: str) -> Iterator[Topic]:
    """Yield every topic that a stack with one chunker and one generation needs."""
    for topic in TOPICS:
        if topic is CHUNKS:
            yield topic.named(chunker)
        elif topic is EMBEDDINGS:
            yield topic.named(generation)
        elif topic is DEAD_LETTERS:
            yield from (topic.named(stage) for stage in STAGES)
        else:
            yield topic
