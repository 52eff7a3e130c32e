"""What the gateway needs from outside, in memory."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from backbone.kafka import Delivered, PublishFailed, Received
from gateway.auth import Caller
from gateway.ports import DocumentRow, QuestionRow
from gateway.questions import DEADLINE_EXCEEDED
from gateway.replies import Replies
from schemas.events import Event, QueryAsked, Reply
from schemas.topics import QUERIES


@dataclass(kw_only=True)
class MemorySender:
    """`Sender` that keeps what was sent. Keys in `failing` are not acknowledged; `on_question` answers questions."""

    sent: list[tuple[str, bytes | None, bytes | None, Mapping[str, bytes | None]]] = field(default_factory=list)
    failing: set[bytes] = field(default_factory=set)
    away: bool = False
    on_question: Any = None

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
        future.set_result(Delivered(topic, 3, len(self.sent) - 1))
        if topic == QUERIES.name and self.on_question is not None and value is not None:
            asyncio.get_running_loop().create_task(self.on_question(msgspec.json.decode(value, type=QueryAsked)))
        return future

    def events(self, kind: type[Event]) -> list[Any]:
        """Return what was sent, read back."""
        return [msgspec.json.decode(value, type=kind) for _, _, value, _ in self.sent if value is not None]


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
    """`QuestionRows` in a dict."""

    rows: dict[tuple[str, str], QuestionRow] = field(default_factory=dict)

    async def generation(self) -> str:
        return "g1"

    async def insert(self, question: QueryAsked) -> None:
        self.rows[question.tenant, question.query] = QuestionRow(
            id=question.query,
            query=question.text,
            user=question.user,
            state="pending",
            generation=question.generation,
            attempt=0,
            answer=None,
            error=None,
            created_ms=time.time_ns() // 1_000_000,
            finished_ms=None,
        )

    async def reject(self, query: str) -> bool:
        return self.change(query, {"pending"}, state="rejected")

    async def expire(self, query: str) -> bool:
        return self.change(query, {"pending", "claimed"}, state="finished", error=DEADLINE_EXCEEDED)

    async def find(self, tenant: str, query: str) -> QuestionRow | None:
        return self.rows.get((tenant, query))

    def change(self, query: str, states: set[str], **fields: Any) -> bool:
        """Change a row by compare-and-set."""
        for key, row in self.rows.items():
            if key[1] == query and row.state in states:
                values = {name: getattr(row, name) for name in row.__slots__}
                finished = {"finished_ms": row.created_ms + 7}
                self.rows[key] = QuestionRow(**(values | finished | fields))
                return True
        return False


@dataclass(kw_only=True)
class MemoryReplies:
    """Puts replies into the log that a gateway reads."""

    replies: Replies
    offset: int = 40

    async def put(self, *replies: Reply) -> None:
        for reply in replies:
            self.offset += 1
            await self.replies.hear(
                Received(
                    topic="rag.answers.v1",
                    partition=2,
                    offset=self.offset,
                    key=reply.query.encode(),
                    value=msgspec.json.encode(reply),
                    headers=(),
                    timestamp_ms=0,
                )
            )
