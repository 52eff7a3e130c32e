"""Rows of questions: inserted before Kafka is asked, ended by compare-and-set."""

import time
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
import msgspec

from gateway.ports import QuestionRow
from gateway.postgres import lend
from gateway.problems import Problem, unavailable
from schemas.events import QueryAsked

_ALIAS_CACHED_S: Final = 1.0

_INSERT: Final = """
INSERT INTO queries (id, tenant, "user", question, reply_partition, deadline, generation)
VALUES ($1, $2, $3, $4, $5, now() + make_interval(secs => $6), $7)
"""

_REJECT: Final = """
UPDATE queries SET state = 'rejected', finished_at = now() WHERE id = $1 AND state = 'pending' RETURNING id
"""

_EXPIRE: Final = """
UPDATE queries SET state = 'finished', error = $2, finished_at = now()
WHERE id = $1 AND state IN ('pending', 'claimed') RETURNING id
"""

_EXPIRE_LATE: Final = """
UPDATE queries SET state = 'finished', error = $3, finished_at = now()
WHERE tenant = $1 AND id = $2 AND state IN ('pending', 'claimed') AND deadline <= now()
"""

_FIND: Final = """
SELECT id, "user", question, state, generation, attempt, answer, error,
       (extract(epoch FROM created_at) * 1000)::bigint AS created_ms,
       (extract(epoch FROM finished_at) * 1000)::bigint AS finished_ms
FROM queries WHERE tenant = $1 AND id = $2
"""

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

    async def insert(self, question: QueryAsked) -> None:
        """See `QuestionRows.insert`."""
        async with lend(self.pool) as connection:
            await connection.execute(
                _INSERT,
                question.query,
                question.tenant,
                question.user,
                msgspec.to_builtins(question),
                question.reply_partition,
                (question.deadline_ms - question.asked_ms) / 1000,
                question.generation,
            )

    async def reject(self, query: str) -> bool:
        """See `QuestionRows.reject`."""
        async with lend(self.pool) as connection:
            return await connection.fetchval(_REJECT, query) is not None

    async def expire(self, query: str) -> bool:
        """See `QuestionRows.expire`."""
        async with lend(self.pool) as connection:
            return await connection.fetchval(_EXPIRE, query, DEADLINE_EXCEEDED) is not None

    async def find(self, tenant: str, query: str) -> QuestionRow | None:
        """See `QuestionRows.find`; a question that is past its deadline is ended by being looked at."""
        async with lend(self.pool) as connection:
            await connection.execute(_EXPIRE_LATE, tenant, query, DEADLINE_EXCEEDED)
            row = await connection.fetchrow(_FIND, tenant, query)
        return None if row is None else _question(row)


def _question(row: Any) -> QuestionRow:
    return QuestionRow(
        id=str(row["id"]),
        query=row["question"]["text"],
        user=row["user"],
        state=row["state"],
        generation=row["generation"],
        attempt=row["attempt"],
        answer=row["answer"],
        error=row["error"],
        created_ms=row["created_ms"],
        finished_ms=row["finished_ms"],
    )


def problem_of(reason: str, message: str, query: str) -> Problem:
    """Make the problem that a question ended with."""
    return Problem(504 if reason == "deadline_exceeded" else 500, reason, message, id=query)
