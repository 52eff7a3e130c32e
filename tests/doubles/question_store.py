"""Rows of accepted questions in memory."""

from dataclasses import dataclass, field

from schemas.events import Answer
from schemas.ids import QueryId
from streams.ports import Claimed


@dataclass(kw_only=True)
class QuestionRow:
    """One accepted question. `in_time` False: its deadline has passed."""

    state: str = "pending"
    in_time: bool = True
    attempt: int = 0
    answer: Answer | None = None
    error: dict[str, str] | None = None


@dataclass(kw_only=True)
class MemoryQuestions:
    """`QuestionStore` in memory; a test puts the rows there, as the gateway does."""

    rows: dict[QueryId, QuestionRow] = field(default_factory=dict)

    async def claim(self, query: QueryId) -> Claimed | None:
        row = self.rows.get(query)
        if row is None:
            return None
        if row.answer is not None:
            return Claimed(attempt=row.attempt, answer=row.answer)
        if row.state not in ("pending", "claimed") or not row.in_time:
            return None
        row.state, row.attempt = "claimed", row.attempt + 1
        return Claimed(attempt=row.attempt)

    async def finish(self, query: QueryId, attempt: int, answer: Answer) -> bool:
        row = self.rows.get(query)
        if row is None or row.state != "claimed" or row.attempt != attempt or not row.in_time:
            return False
        row.state, row.answer = "finished", answer
        return True

    async def fail(self, query: QueryId, reason: str, message: str) -> bool:
        row = self.rows.get(query)
        if row is None or row.state not in ("pending", "claimed"):
            return False
        row.state, row.error = "finished", {"reason": reason, "message": message}
        return True
