"""Rows of accepted questions in memory, and nudges that a test gives."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from schemas.events import Answer, Hit
from schemas.ids import QueryId
from streams.ports import Claimed, Ended, Ending, Renewed

FINISHED_MS = 5_040
"""When every question ends."""


@dataclass(kw_only=True)
class QuestionRow:
    """One accepted question. `in_time` False: its deadline has passed; `lapsed`: so has the lease of its claim."""

    state: str = "pending"
    in_time: bool = True
    attempt: int = 0
    claimed_by: str | None = None
    lapsed: bool = False
    lapses: int = 0
    cancel_asked: bool = False
    outcome: str | None = None
    terminal_seq: int | None = None
    answer: Answer | None = None
    error: dict[str, str | None] | None = None
    hits: Sequence[Hit] = ()
    retrieve_ms: float | None = None
    published: bool = False

    def free_for(self, worker: str) -> bool:
        """Whether this process may take or end it."""
        held = self.claimed_by != worker and not self.lapsed
        return self.state == "pending" or (self.state == "claimed" and not held)

    def held_by(self, worker: str, attempt: int) -> bool:
        """Whether this attempt holds it."""
        return (self.state, self.claimed_by, self.attempt) == ("claimed", worker, attempt)

    @property
    def cancel_asked_s(self) -> float | None:
        """As in `Claimed`."""
        return 0.02 if self.cancel_asked else None


@dataclass(kw_only=True)
class MemoryQuestions:
    """`QuestionStore` in memory; a test puts the rows there, as the gateway does, and says what time does."""

    rows: dict[QueryId, QuestionRow] = field(default_factory=dict)
    worker: str = "w1"
    left_s: float = 30.0

    async def claim(self, query: QueryId) -> Claimed | None:
        row = self.rows.get(query)
        if row is None or not row.in_time or not row.free_for(self.worker):
            return None
        taken_over = row.attempt > 0 and row.claimed_by != self.worker
        row.lapses += row.state == "claimed" and row.claimed_by not in (None, self.worker)
        row.state, row.attempt, row.claimed_by, row.lapsed = "claimed", row.attempt + 1, self.worker, False
        return Claimed(
            attempt=row.attempt,
            left_s=self.left_s,
            cancel_asked_s=row.cancel_asked_s,
            taken_over=taken_over,
            lapses=row.lapses,
        )

    async def renew(self, query: QueryId, attempt: int) -> Renewed | None:
        row = self.rows.get(query)
        if row is None or not row.held_by(self.worker, attempt):
            return None
        row.lapsed = False
        return Renewed(cancel_asked_s=row.cancel_asked_s)

    async def release(self, query: QueryId, attempt: int) -> None:
        row = self.rows.get(query)
        if row is not None and row.held_by(self.worker, attempt):
            row.lapsed, row.claimed_by = True, None

    async def finish(self, query: QueryId, attempt: int, ending: Ending) -> Ended | None:
        row = self.rows.get(query)
        if row is None or not row.in_time or not row.held_by(self.worker, attempt):
            return None
        return None if ending.outcome == "done" and row.cancel_asked else _end(row, ending)

    async def fail(self, query: QueryId, ending: Ending) -> Ended | None:
        row = self.rows.get(query)
        return None if row is None or not row.free_for(self.worker) else _end(row, ending)

    async def published(self, query: QueryId) -> None:
        self.rows[query].published = True


def _end(row: QuestionRow, ending: Ending) -> Ended:
    row.state, row.outcome, row.terminal_seq, row.answer = (
        "finished",
        ending.outcome,
        ending.terminal_seq,
        ending.answer,
    )
    row.hits, row.retrieve_ms = ending.hits, ending.retrieve_ms
    row.error = None if ending.reason is None else {"reason": ending.reason, "message": ending.message}
    return Ended(attempt=row.attempt, finished_ms=FINISHED_MS)


@dataclass(kw_only=True)
class MemoryCancellations:
    """`Cancellations` by the hand of a test."""

    watched: dict[QueryId, asyncio.Event] = field(default_factory=dict)

    @contextmanager
    def watching(self, query: QueryId) -> Iterator[asyncio.Event]:
        nudged = self.watched[query] = asyncio.Event()
        try:
            yield nudged
        finally:
            del self.watched[query]
