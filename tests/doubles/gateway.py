"""What the gateway needs from outside, in memory."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from backbone.kafka import Delivered, PublishFailed
from gateway.auth import Caller
from gateway.ports import DocumentRow, HeldKey, KeyRow, QuestionRow, Requeued
from gateway.questions import DEADLINE_EXCEEDED, NO_PLACE
from schemas.events import Answer, Event, FeedbackGiven, QueryAsked, Reply
from schemas.topics import ANSWERS, LIFECYCLE, QUERIES, Topic
from tests.doubles.partition_log import MemoryLog

OPEN = {"pending", "claimed"}


@dataclass(kw_only=True)
class MemorySender:
    """`Sender` that keeps what was sent, and to which partition where that was said.

    Keys in `failing` are not acknowledged; `on_question` answers questions; replies go to the log `answers`.
    """

    sent: list[tuple[str, bytes | None, bytes | None, Mapping[str, bytes | None]]] = field(default_factory=list)
    partitions: list[int | None] = field(default_factory=list)
    failing: set[bytes] = field(default_factory=set)
    away: bool = False
    on_question: Any = None
    answers: MemoryLog | None = None

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, bytes | None],
        partition: int | None = None,
    ) -> "asyncio.Future[Delivered]":
        future: asyncio.Future[Delivered] = asyncio.get_running_loop().create_future()
        if self.away or key in self.failing:
            future.set_exception(PublishFailed(f"topic {topic!r}: timed out"))
            return future
        self.sent.append((topic, key, value, headers))
        self.partitions.append(partition)
        future.set_result(Delivered(topic, 3, len(self.sent) - 1))
        if topic == ANSWERS.name and self.answers is not None and partition is not None:
            self.answers.append(partition, key, value, list(headers.items()))
        if topic == QUERIES.name and self.on_question is not None and value is not None:
            asyncio.get_running_loop().create_task(self.on_question(msgspec.json.decode(value, type=QueryAsked)))
        return future

    def events(self, kind: type[Event], topic: Topic | None = None) -> list[Any]:
        """Return what was sent, or what was sent to a topic, read back."""
        return [
            msgspec.json.decode(value, type=kind)
            for name, _, value, _ in self.sent
            if value is not None and (topic is None or name == topic.name)
        ]


@dataclass(kw_only=True)
class MemoryDocumentRows:
    """`DocumentRows` over rows by (tenant, id); `contents` maps them to an object's name."""

    rows: dict[tuple[str, str], DocumentRow] = field(default_factory=dict)
    contents: dict[tuple[str, str], str] = field(default_factory=dict)

    async def find(self, caller: Caller, documents: Sequence[str]) -> dict[str, DocumentRow]:
        return {each: self.rows[caller.tenant, each] for each in documents if (caller.tenant, each) in self.rows}

    async def page(
        self, caller: Caller, *, collection: str | None, status: str | None, after: str, limit: int
    ) -> list[DocumentRow]:
        mine = (row for (tenant, _), row in sorted(self.rows.items()) if tenant == caller.tenant)
        found = (
            row
            for row in mine
            if row.readable
            and row.id > after
            and collection in (None, row.attributes["collection"])
            and status in (None, row.status)
            and (status == "deleted" or not row.deleted)
        )
        return list(found)[:limit]

    async def content(self, caller: Caller, document: str) -> str | None:
        return self.contents.get((caller.tenant, document))


@dataclass(kw_only=True)
class MemoryQuestionRows:
    """`QuestionRows` in a dict by (tenant, id).

    Workers do `on_cancel` when a cancel is requested, and `before_end` before the gateway ends a question; both get its
    id.
    """

    rows: dict[tuple[str, str], QuestionRow] = field(default_factory=dict)
    on_cancel: Callable[[str], object] = lambda _: None
    before_end: Callable[[str], object] = lambda _: None
    requeued: set[str] = field(default_factory=set)
    cancel_requested: set[str] = field(default_factory=set)

    async def generation(self) -> str:
        return "g1"

    async def insert(self, question: QueryAsked, *, reply_offset: int) -> QuestionRow | None:
        held = self.rows.get((question.tenant, question.query))
        if held is not None:
            if held.state != "rejected":
                return None
            question = msgspec.structs.replace(question, reply_partition=held.reply_partition)
            reply_offset = held.reply_offset
        self.rows[question.tenant, question.query] = QuestionRow(
            asked=question,
            state="pending",
            attempt=0,
            reply_offset=reply_offset,
            created_ms=time.time_ns() // 1_000_000,
            left_ms=question.deadline_ms - question.asked_ms,
        )
        return self.rows[question.tenant, question.query]

    async def requeue(self, query: str) -> bool:
        row = self._row(query)
        if row is None or row.state != "pending" or row.attempt > 0 or query in self.requeued:
            return False
        self.requeued.add(query)
        return True

    async def reject(self, query: str) -> bool:
        row = self._row(query)
        if row is None or row.attempt > 0 or query in self.requeued:
            return False
        return self.change(query, {"pending"}, state="rejected")

    async def expire(self, query: str) -> QuestionRow | None:
        return self._end(query, outcome="error", error=DEADLINE_EXCEEDED, terminal_seq=NO_PLACE)

    async def request_cancel(self, query: str) -> bool:
        row = self._row(query)
        if row is None or row.state not in OPEN:
            return False
        self.cancel_requested.add(query)
        self.on_cancel(query)
        return True

    async def finish_cancelled(
        self, query: str, *, attempt: int, answer: Answer, terminal_seq: int
    ) -> QuestionRow | None:
        self.before_end(query)
        row = self._row(query)
        if row is None or row.attempt != attempt:
            return None
        return self._end(query, outcome="cancelled", answer=msgspec.to_builtins(answer), terminal_seq=terminal_seq)

    async def set_published(self, query: str) -> None:
        self.change(query, {"finished"}, published=True)

    async def set_feedback(self, tenant: str, query: str, feedback: FeedbackGiven) -> None:
        if (tenant, query) in self.rows:
            self.change(query, {"finished"}, feedback=msgspec.to_builtins(feedback))

    async def find(self, tenant: str, query: str) -> QuestionRow | None:
        return self.rows.get((tenant, query))

    def change(self, query: str, states: set[str], **fields: Any) -> bool:
        """Change a row by compare-and-set, as a worker may too."""
        row = self._row(query)
        if row is None or row.state not in states:
            return False
        if fields.get("state") in ("finished", "rejected"):
            fields = {"finished_ms": row.created_ms + 7} | fields
        self.rows[row.asked.tenant, query] = replace(row, **fields)
        return True

    def _row(self, query: str) -> QuestionRow | None:
        return next((row for row in self.rows.values() if row.id == query), None)

    def _end(self, query: str, **fields: Any) -> QuestionRow | None:
        return self._row(query) if self.change(query, OPEN, state="finished", **fields) else None


@dataclass(kw_only=True)
class MemorySweptRows:
    """`SweptRows` over `MemoryQuestionRows`; a test says what time would do.

    Questions are past their deadline by `left_ms`. `lapsed`: the lease of its claim has lapsed. `unclaimed`: produced
    again 10 s ago. `ended`: it ended a while ago. The next rounds fail with `failures`; `dropped` ends a round.
    """

    questions: MemoryQuestionRows
    lapsed: set[str] = field(default_factory=set)
    unclaimed: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    failures: list[Exception] = field(default_factory=list)
    dropped: asyncio.Event = field(default_factory=asyncio.Event)

    async def expire(self, limit: int) -> list[QuestionRow]:
        if self.failures:
            raise self.failures.pop(0)
        due = [row.id for row in self.questions.rows.values() if row.left_ms <= 0 and row.state in OPEN]
        return [row for query in due[:limit] if (row := await self.questions.expire(query)) is not None]

    async def requeue(self, limit: int) -> list[Requeued]:
        found = []
        for row in list(self.questions.rows.values()):
            lapsed = row.state == "claimed" and row.id in self.lapsed
            if row.left_ms > 0 and (lapsed or (row.state == "pending" and row.id in self.unclaimed)):
                found.append((row, lapsed))
        for row, _ in found[:limit]:
            self.lapsed.discard(row.id)
            self.unclaimed.discard(row.id)
            self.questions.requeued.add(row.id)
            self.questions.change(row.id, OPEN, state="pending")
        return [Requeued(self.questions.rows[row.asked.tenant, row.id], lapsed) for row, lapsed in found[:limit]]

    async def republish(self, publish: Callable[[QuestionRow], Awaitable[bool]], *, limit: int) -> int:
        rows = self.questions.rows.values()
        due = [row for row in rows if row.state == "finished" and not row.published and row.id in self.ended]
        done = [row.id for row in due[:limit] if await publish(row)]
        for query in done:
            await self.questions.set_published(query)
        return len(done)

    async def drop_old(self) -> None:
        self.dropped.set()

    async def oldest_open_s(self) -> float:
        now_ms = time.time_ns() // 1_000_000
        ages = [now_ms - row.created_ms for row in self.questions.rows.values() if row.state in OPEN]
        return max(ages, default=0) / 1000


@dataclass(kw_only=True)
class MemoryReplies:
    """Puts replies into partition 2 of the log that a gateway reads, and changes of documents into another."""

    log: MemoryLog = field(default_factory=lambda: MemoryLog(ANSWERS.name, {0: 0, 1: 0, 2: 41}))
    lifecycle: MemoryLog = field(
        default_factory=lambda: MemoryLog(LIFECYCLE.name, dict.fromkeys(range(LIFECYCLE.partitions), 0))
    )

    async def put(self, *replies: Reply) -> None:
        for reply in replies:
            self.log.append(2, reply.query.encode(), msgspec.json.encode(reply))


@dataclass(kw_only=True)
class MemoryHeldKey:
    """`HeldKey`."""

    response: Any = None

    async def keep(self, response: Any) -> None:
        self.response = response


@dataclass(kw_only=True)
class MemoryKeyRows:
    """`KeyRows` in a dict by (tenant, key)."""

    rows: dict[tuple[str, str], KeyRow] = field(default_factory=dict)
    held: dict[tuple[str, str], MemoryHeldKey] = field(default_factory=dict)
    locks: defaultdict[tuple[str, str], asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def remember(self, tenant: str, key: str, *, route: str, body_sha256: bytes) -> KeyRow:
        row = KeyRow(route=route, body_sha256=body_sha256, first_us=time.time_ns() // 1_000)
        return self.rows.setdefault((tenant, key), row)

    @asynccontextmanager
    async def holding(self, tenant: str, key: str) -> AsyncIterator[HeldKey]:
        async with self.locks[tenant, key]:
            yield self.held.setdefault((tenant, key), MemoryHeldKey())
