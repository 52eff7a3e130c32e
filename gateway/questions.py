"""Rows of questions: inserted before Kafka is asked, ended by compare-and-set."""

import time
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import msgspec

from gateway.ports import QuestionRow
from gateway.postgres import lend
from gateway.problems import Problem, unavailable
from schemas.events import Answer, FeedbackGiven, QueryAsked

_ALIAS_CACHED_S: Final = 1.0

NO_PLACE: Final = -1
"""`terminal_seq` of an error that the gateway ends a question with: it passes readers whatever their place."""

COLUMNS: Final = """
    question, state, attempt, reply_offset, outcome, terminal_seq, answer, error, hits, retrieve_ms, scores, feedback,
    published_at IS NOT NULL AS published,
    (extract(epoch FROM created_at) * 1000)::bigint AS created_ms,
    (extract(epoch FROM finished_at) * 1000)::bigint AS finished_ms,
    (extract(epoch FROM deadline - now()) * 1000)::bigint AS left_ms
"""
"""What `question_of` makes a row of."""

_INSERT: Final = f"""
INSERT INTO queries (id, tenant, "user", question, reply_partition, reply_offset, deadline, generation)
VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7), $8)
ON CONFLICT (id) DO UPDATE SET
    state = 'pending', finished_at = NULL, created_at = now(), deadline = excluded.deadline,
    generation = excluded.generation,
    question = excluded.question || jsonb_build_object('reply_partition', queries.reply_partition)
WHERE queries.state = 'rejected'
RETURNING {COLUMNS}
"""

_REQUEUE: Final = """
UPDATE queries SET requeued_at = now()
WHERE id = $1 AND state = 'pending' AND attempt = 0
  AND (requeued_at IS NULL OR requeued_at < now() - interval '1 second')
RETURNING id
"""

_REJECT: Final = """
UPDATE queries SET state = 'rejected', finished_at = now()
WHERE id = $1 AND state = 'pending' AND attempt = 0 AND requeued_at IS NULL
RETURNING id
"""

_EXPIRE: Final = f"""
UPDATE queries SET state = 'finished', outcome = 'error', terminal_seq = {NO_PLACE}, error = $2, finished_at = now()
WHERE id = $1 AND state IN ('pending', 'claimed')
RETURNING {COLUMNS}
"""

_REQUEST_CANCEL: Final = """
UPDATE queries SET cancel_requested_at = coalesce(cancel_requested_at, now())
WHERE id = $1 AND state IN ('pending', 'claimed')
RETURNING id
"""

_FINISH_CANCELLED: Final = f"""
UPDATE queries SET state = 'finished', outcome = 'cancelled', terminal_seq = $4, answer = $3, finished_at = now()
WHERE id = $1 AND attempt = $2 AND state IN ('pending', 'claimed')
RETURNING {COLUMNS}
"""

_SET_PUBLISHED: Final = "UPDATE queries SET published_at = coalesce(published_at, now()) WHERE id = $1"

_SET_FEEDBACK: Final = "UPDATE queries SET feedback = $3 WHERE tenant = $1 AND id = $2 AND state = 'finished'"

_FIND: Final = f"SELECT {COLUMNS} FROM queries WHERE tenant = $1 AND id = $2"

DEADLINE_EXCEEDED: Final = {
    "reason": "deadline_exceeded",
    "message": "the question ran out of time before it was answered; ask again, or raise HEADRACE_QUERY_TIMEOUT_MS",
}


@dataclass(kw_only=True)
class PostgresQuestionRows:
    """`QuestionRows` on the table `queries`.

    Attributes:
        alias: names the generation that answers.
    """

    pool: "asyncpg.Pool[Any]"
    alias: str
    _generation: tuple[float, str] = field(default=(float("-inf"), ""), init=False)

    async def generation(self) -> str:
        """See `QuestionRows.generation`."""
        read_at, generation = self._generation
        if time.monotonic() - read_at < _ALIAS_CACHED_S:
            return generation
        async with lend(self.pool) as connection:
            found: str | None = await connection.fetchval("SELECT generation FROM aliases WHERE alias = $1", self.alias)
        if found is None:
            raise unavailable("the index", f"no generation is named {self.alias!r}; run headrace init")
        self._generation = (time.monotonic(), found)
        return found

    async def insert(self, question: QueryAsked, *, reply_offset: int) -> QuestionRow | None:
        """See `QuestionRows.insert`."""
        return await self._row(
            _INSERT,
            question.query,
            question.tenant,
            question.user,
            msgspec.to_builtins(question),
            question.reply_partition,
            reply_offset,
            (question.deadline_ms - question.asked_ms) / 1000,
            question.generation,
        )

    async def requeue(self, query: str) -> bool:
        """See `QuestionRows.requeue`."""
        return await self._changed(_REQUEUE, query)

    async def reject(self, query: str) -> bool:
        """See `QuestionRows.reject`."""
        return await self._changed(_REJECT, query)

    async def expire(self, query: str) -> QuestionRow | None:
        """See `QuestionRows.expire`."""
        return await self._row(_EXPIRE, query, DEADLINE_EXCEEDED)

    async def request_cancel(self, query: str) -> bool:
        """See `QuestionRows.request_cancel`."""
        return await self._changed(_REQUEST_CANCEL, query)

    async def finish_cancelled(
        self, query: str, *, attempt: int, answer: Answer, terminal_seq: int
    ) -> QuestionRow | None:
        """See `QuestionRows.finish_cancelled`."""
        return await self._row(_FINISH_CANCELLED, query, attempt, msgspec.to_builtins(answer), terminal_seq)

    async def set_published(self, query: str) -> None:
        """See `QuestionRows.set_published`."""
        async with lend(self.pool) as connection:
            await connection.execute(_SET_PUBLISHED, query)

    async def set_feedback(self, tenant: str, query: str, feedback: FeedbackGiven) -> None:
        """See `QuestionRows.set_feedback`."""
        async with lend(self.pool) as connection:
            await connection.execute(_SET_FEEDBACK, tenant, query, msgspec.to_builtins(feedback))

    async def find(self, tenant: str, query: str) -> QuestionRow | None:
        """See `QuestionRows.find`."""
        return await self._row(_FIND, tenant, query)

    async def _changed(self, statement: str, *values: Any) -> bool:
        async with lend(self.pool) as connection:
            return await connection.fetchval(statement, *values) is not None

    async def _row(self, statement: str, *values: Any) -> QuestionRow | None:
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(statement, *values)
        return None if row is None else question_of(row)


def question_of(row: Any) -> QuestionRow:
    """Read a row of `COLUMNS`."""
    return QuestionRow(
        asked=msgspec.convert(row["question"], QueryAsked),
        state=row["state"],
        attempt=row["attempt"],
        reply_offset=row["reply_offset"],
        created_ms=row["created_ms"],
        left_ms=row["left_ms"],
        outcome=row["outcome"],
        terminal_seq=row["terminal_seq"],
        answer=row["answer"],
        error=row["error"],
        finished_ms=row["finished_ms"],
        published=row["published"],
        hits=row["hits"],
        retrieve_ms=row["retrieve_ms"],
        scores=row["scores"],
        feedback=row["feedback"],
    )


def problem_of(reason: str, message: str, query: str) -> Problem:
    """Make the problem that a question ended with."""
    return Problem(504 if reason == "deadline_exceeded" else 500, reason, message, id=query)
