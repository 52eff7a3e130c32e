"""What the gateway needs from outside, as roles; tests put doubles in their place."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from backbone.kafka import Delivered, Received
from backbone.settings import GatewaySettings
from gateway.admission import Admission
from gateway.auth import ApiKeys, Caller
from gateway.log.shared import SharedLog
from gateway.replies import Replies
from gateway.sse import OpenStreams
from schemas.codec import Blobs
from schemas.events import Answer, FeedbackGiven, QueryAsked


class Sender(Protocol):
    """Sends records to Kafka; `backbone.kafka.Publisher` is one."""

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, bytes | None],
        partition: int | None = None,
    ) -> "asyncio.Future[Delivered]":
        """Send a record; the future fails with `PublishFailed`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRow:
    """A document as Postgres knows it; `attributes` is its description for readers.

    `applied` maps a partition of the ingest topic to the last offset that intake has applied. `readable`: the caller's
    groups may see it.
    """

    id: str
    status: str
    deleted: bool
    readable: bool
    attributes: Mapping[str, Any]
    applied: Mapping[int, int]


class DocumentRows(Protocol):
    """Reads documents of one tenant. Methods raise `Problem` 503 where Postgres is away."""

    async def find(self, caller: Caller, documents: Sequence[str]) -> dict[str, DocumentRow]:
        """Return what is known of these ids, readable or not, deleted or not."""
        ...

    async def page(
        self, caller: Caller, *, collection: str | None, status: str | None, after: str, limit: int
    ) -> list[DocumentRow]:
        """Return readable documents in order of id, those with an id over `after`; deleted ones if asked by status."""
        ...

    async def content(self, caller: Caller, document: str) -> str | None:
        """Return the object that holds the text of the live version; None where nothing readable is live."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionRow:
    """A question as Postgres knows it. Times are milliseconds since the epoch, by the clock of Postgres.

    Attributes:
        asked: the question as it was produced, or is to be produced.
        state: pending, claimed, finished or rejected.
        attempt: number of claims; the current or last attempt.
        reply_offset: no reply to the question stands before it in its reply partition.
        outcome: done, error or cancelled, of a finished question.
        terminal_seq: place of the terminal event in `attempt`; -1 has no place in the order.
        answer: as `events.Answer`; the text so far of a cancelled question.
        error: `{"reason", "message"}`.
        hits: each as `events.Hit`.
        scores: as `events.Scores`; feedback: as `events.FeedbackGiven`, the last one.
        left_ms: time until the deadline when the row was read; negative: past it.
    """

    asked: QueryAsked
    state: str
    attempt: int
    reply_offset: int
    created_ms: int
    left_ms: int
    outcome: str | None = None
    terminal_seq: int | None = None
    answer: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    finished_ms: int | None = None
    published: bool = False
    hits: Sequence[Mapping[str, Any]] | None = None
    retrieve_ms: float | None = None
    scores: Mapping[str, Any] | None = None
    feedback: Mapping[str, Any] | None = None

    @property
    def id(self) -> str:
        """Id of the question."""
        return self.asked.query

    @property
    def query(self) -> str:
        """Text of the question."""
        return self.asked.text

    @property
    def user(self) -> str | None:
        """Who asked."""
        return self.asked.user

    @property
    def generation(self) -> str:
        """Index generation that answers."""
        return self.asked.generation

    @property
    def reply_partition(self) -> int:
        """Partition of the answers topic that holds the replies."""
        return self.asked.reply_partition


class QuestionRows(Protocol):
    """Keeps accepted questions. Methods raise `Problem` 503 where Postgres is away.

    Those that end a question return its row as it ended, or None where it had ended before; whoever gets the row
    publishes the end (`gateway.endings`).
    """

    async def generation(self) -> str:
        """Return the generation that the alias names, at most a second old.

        Raises:
            Problem: 503, the alias does not exist.
        """
        ...

    async def insert(self, question: QueryAsked, *, reply_offset: int) -> QuestionRow | None:
        """Insert a row in state `pending`; its deadline counts from now on Postgres' clock.

        A rejected question of this id becomes pending anew. It keeps its reply partition and offset, for a record of
        the first try may stand in Kafka.

        Returns:
            The row; None where the id is taken by a question that was not rejected, and nothing changed.
        """
        ...

    async def requeue(self, query: str) -> bool:
        """Take it upon oneself to produce an unclaimed question again; False where another did within a second.

        From then on the sweeper produces it until it is claimed, and it cannot be rejected.
        """
        ...

    async def reject(self, query: str) -> bool:
        """End a question that Kafka may not have; False where it was claimed, requeued or ended meanwhile."""
        ...

    async def expire(self, query: str) -> QuestionRow | None:
        """End a question that ran out of time, with error `deadline_exceeded`."""
        ...

    async def request_cancel(self, query: str) -> bool:
        """Note that an open question is to be cancelled; its worker finds that when it renews. False: not open."""
        ...

    async def finish_cancelled(
        self, query: str, *, attempt: int, answer: Answer, terminal_seq: int
    ) -> QuestionRow | None:
        """End an open question in this attempt as cancelled, with the text so far."""
        ...

    async def set_published(self, query: str) -> None:
        """Note that Kafka has acknowledged the end of a question."""
        ...

    async def set_feedback(self, tenant: str, query: str, feedback: FeedbackGiven) -> None:
        """Keep the feedback of a finished question, in place of an earlier one."""
        ...

    async def find(self, tenant: str, query: str) -> QuestionRow | None:
        """Return a question of this tenant."""
        ...


@dataclass(frozen=True, slots=True)
class Requeued:
    """A question to be produced again. `lapsed`: its worker fell silent; else nobody has claimed what was produced."""

    row: QuestionRow
    lapsed: bool


class SweptRows(Protocol):
    """What the sweeper finds to do. Of several sweepers each row goes to one. Methods raise `Problem` 503 where
    Postgres is away."""

    async def expire(self, limit: int) -> list[QuestionRow]:
        """End at most `limit` open questions that are past their deadline, with error `deadline_exceeded`."""
        ...

    async def requeue(self, limit: int) -> list[Requeued]:
        """Put back to `pending` at most `limit` questions whose lease has lapsed, or that wait for 10 s to be claimed
        again; they wait anew from now."""
        ...

    async def republish(self, publish: Callable[[QuestionRow], Awaitable[bool]], *, limit: int) -> int:
        """Call `publish` for at most `limit` ends that are not published a while after the question ended.

        The rows are held meanwhile. Those for which it returns True are published.

        Returns:
            How many were published.
        """
        ...

    async def drop_old(self) -> None:
        """Forget idempotency keys of more than a day, and gateways whose lease has lapsed."""
        ...

    async def oldest_open_s(self) -> float:
        """Return the age of the oldest question without an end; 0 where there is none."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """An Idempotency-Key as it was first used. `first_us`: when, in microseconds since the epoch."""

    route: str
    body_sha256: bytes
    first_us: int


class HeldKey(Protocol):
    """A key that nobody else may answer meanwhile."""

    response: Any
    """What was answered, as JSON values; None: nothing yet."""

    async def keep(self, response: Any) -> None:
        """Store what is answered."""
        ...


class KeyRows(Protocol):
    """Keeps the idempotency keys of each tenant for a day. Methods raise `Problem` 503 where Postgres is away."""

    async def remember(self, tenant: str, key: str, *, route: str, body_sha256: bytes) -> KeyRow:
        """Store a key that is new; return how it was first used."""
        ...

    def holding(self, tenant: str, key: str) -> AbstractAsyncContextManager[HeldKey]:
        """Hold a key that was remembered; who comes while another holds it waits."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterFilter:
    """Which dead letters; None: any. `since` and `until` are about when they were given up."""

    stage: str | None = None
    reason: str | None = None
    state: str | None = None
    tenant: str | None = None
    document: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LetterRow:
    """A dead letter as it is registered. `attributes` is its description for readers."""

    stage: str
    partition: int
    offset: int
    state: str
    failed_at: datetime
    attributes: Mapping[str, Any]


class LetterRows(Protocol):
    """The register of dead letters. A caller that is no operator sees those of its tenant's documents that it may read,
    and those of its tenant's questions. Methods raise `Problem` 503 where Postgres is away."""

    async def page(
        self, caller: Caller, wanted: LetterFilter, *, before: LetterRow | None, limit: int
    ) -> list[LetterRow]:
        """Return dead letters, the newest first; with `before`, those that come after it."""
        ...

    async def find(self, caller: Caller, stage: str, partition: int, offset: int) -> LetterRow | None:
        """Return one of them."""
        ...

    async def decide(self, row: LetterRow, state: str, *, from_states: Sequence[str]) -> bool:
        """Set the state of a dead letter that is in one of these; False where it is not."""
        ...

    async def decide_all(self, caller: Caller, wanted: LetterFilter, state: str, *, but_stages: Sequence[str]) -> int:
        """Set the state of all open dead letters, but those of some stages; return how many."""
        ...


class VerificationRows(Protocol):
    """Verifications that were asked for. Methods raise `Problem` 503 where Postgres is away."""

    async def ask(self, *, repair: bool) -> Mapping[str, Any]:
        """Ask for one; return its description."""
        ...

    async def find(self, id: str, *, after: int, limit: int) -> Mapping[str, Any] | None:
        """Return one with `limit` of its findings, those behind the first `after`."""
        ...

    async def coverage(self) -> Sequence[Mapping[str, Any]]:
        """Return how far each generation has come."""
        ...


class GenerationRows(Protocol):
    """Index generations and switches between them. Methods raise `Problem` 503 where Postgres is away."""

    async def all(self) -> Sequence[Mapping[str, Any]]:
        """Return all generations, the oldest first."""
        ...

    async def find(self, name: str) -> Mapping[str, Any] | None:
        """Return one of them."""
        ...

    async def progress(self, name: str) -> Mapping[str, Any]:
        """Return how many documents a generation covers, how fast, how many workers can search it, and its shadow."""
        ...

    async def ask(self, name: str, *, chunker: str, embedder: str, lexical: str, vectors: str) -> bool:
        """Ask for a generation, and where its words and vectors are searched; False: the name was used before."""
        ...

    async def change(self, name: str, state: str, *, from_states: Sequence[str]) -> bool:
        """Set the state of a generation that is in one of these, does not answer and is not about to; False: it is
        not."""
        ...

    async def shadow(self, name: str, share: float) -> bool:
        """Have a candidate asked this share of the live questions from now on; False: it holds no documents, or it
        answers. With a share of 0 True wherever there is such a generation."""
        ...

    async def switch(
        self,
        name: str,
        *,
        previous: str,
        kind: Literal["switch", "rollback"],
        forced: bool,
        gate: str | None,
        asked_by: str,
    ) -> Mapping[str, Any] | None:
        """Ask for a switch; None: another one is under way."""
        ...

    async def switches(self, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return the last switches, the newest first."""
        ...

    async def cancel_switch(self) -> bool:
        """Cancel the switch that waits; False: none does."""
        ...


class GateRows(Protocol):
    """Gates that were asked for. Methods raise `Problem` 503 where Postgres is away."""

    async def generations(self) -> Collection[str]:
        """Return the index generations that there are."""
        ...

    async def ask(
        self, *, candidate: str, base: str, tenant: str, margin: float, sets: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        """Ask for one; return its description. None: one of this candidate is under way."""
        ...

    async def latest(self, candidate: str) -> Mapping[str, Any] | None:
        """Return the last one of a candidate that was asked for."""
        ...

    async def judged(self, candidate: str, base: str) -> Mapping[str, Any] | None:
        """Return id, verdict, passed, reason, margin and age_s of the last one of a pair that has a verdict."""
        ...

    async def cancel(self, candidate: str) -> bool:
        """Cancel the one of a candidate that is under way; False where none is."""
        ...


class RebuildRows(Protocol):
    """Rebuilds that were asked for. Methods raise `Problem` 503 where Postgres is away."""

    async def ask(self, generation: str, *, sink: str, asked_by: str) -> Mapping[str, Any] | None:
        """Ask for one; return its description. None: one of this sink of the generation is under way."""
        ...

    async def find(self, id: str) -> Mapping[str, Any] | None:
        """Return one by its id."""
        ...

    async def latest(self, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return the last ones, the newest first."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """All that the routes use.

    `checks` maps the name of a dependency to what raises, with the reason, when it does not work; without those of
    `optional_checks` the gateway serves all the same. `admission` lets questions in, `searches` bare searches.
    `record_at` reads one record of Kafka, by topic, partition and offset. `stopping` is set when the gateway stops.
    """

    settings: GatewaySettings
    keys: ApiKeys
    sender: Sender
    blobs: Blobs
    documents: DocumentRows
    questions: QuestionRows
    swept: SweptRows
    idempotency: KeyRows
    letters: LetterRows
    verifications: VerificationRows
    generations: GenerationRows
    rebuilds: RebuildRows
    gates: GateRows
    record_at: Callable[[str, int, int], Awaitable[Received | None]]
    replies: Replies
    lifecycle: SharedLog
    streams: OpenStreams
    admission: Admission
    searches: Admission
    checks: Mapping[str, Callable[[], Awaitable[object]]]
    optional_checks: Mapping[str, Callable[[], Awaitable[object]]]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
