"""What the sweeper finds in Postgres; rows that another sweeper holds are skipped."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from gateway.ports import QuestionRow, Requeued
from gateway.postgres import lend
from gateway.questions import COLUMNS, DEADLINE_EXCEEDED, NO_PLACE, question_of

_EXPIRE: Final = f"""
WITH due AS (
    SELECT id FROM queries WHERE state IN ('pending', 'claimed') AND deadline <= now()
    ORDER BY deadline LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE queries SET state = 'finished', outcome = 'error', terminal_seq = {NO_PLACE}, error = $2, finished_at = now()
FROM due WHERE queries.id = due.id
RETURNING {COLUMNS}
"""

_REQUEUE: Final = f"""
WITH due AS (
    SELECT id, state = 'claimed' AS lapsed FROM queries
    WHERE deadline > now() AND (
        state = 'claimed' AND lease_until < now()
        OR state = 'pending' AND requeued_at < now() - interval '10 seconds'
    )
    ORDER BY deadline LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE queries SET state = 'pending', requeued_at = now(), claimed_by = NULL, lease_until = NULL,
    lapses = lapses + (claimed_by IS NOT NULL)::int
FROM due WHERE queries.id = due.id
RETURNING {COLUMNS}, lapsed
"""

_UNPUBLISHED: Final = f"""
SELECT {COLUMNS} FROM queries
WHERE state = 'finished' AND published_at IS NULL AND outcome IS NOT NULL
  AND finished_at < now() - make_interval(secs => $1)
ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED
"""

_SET_PUBLISHED: Final = "UPDATE queries SET published_at = now() WHERE id = ANY($1)"

_DROP_KEYS: Final = """
DELETE FROM idempotency_keys WHERE (tenant, key) IN (
    SELECT tenant, key FROM idempotency_keys WHERE created_at < now() - interval '24 hours'
    LIMIT 10000 FOR UPDATE SKIP LOCKED
)
"""

_DROP_GATEWAYS: Final = "DELETE FROM gateways WHERE lease_until < now()"

_OLDEST: Final = """
SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 FROM queries
WHERE state IN ('pending', 'claimed')
"""


@dataclass(frozen=True, kw_only=True)
class PostgresSweptRows:
    """`SweptRows` on Postgres.

    Attributes:
        republish_after_s: for how long an end that is not published yet is left to whoever ended the question.
    """

    pool: "asyncpg.Pool[Any]"
    republish_after_s: float

    async def expire(self, limit: int) -> list[QuestionRow]:
        """See `SweptRows.expire`."""
        async with lend(self.pool) as connection:
            return [question_of(row) for row in await connection.fetch(_EXPIRE, limit, DEADLINE_EXCEEDED)]

    async def requeue(self, limit: int) -> list[Requeued]:
        """See `SweptRows.requeue`."""
        async with lend(self.pool) as connection:
            return [Requeued(question_of(row), row["lapsed"]) for row in await connection.fetch(_REQUEUE, limit)]

    async def republish(self, publish: Callable[[QuestionRow], Awaitable[bool]], *, limit: int) -> int:
        """See `SweptRows.republish`; the rows are locked until the last is acknowledged."""
        async with lend(self.pool) as connection, connection.transaction():
            due = [question_of(row) for row in await connection.fetch(_UNPUBLISHED, self.republish_after_s, limit)]
            done = [row.id for row, ok in zip(due, await asyncio.gather(*map(publish, due)), strict=True) if ok]
            if done:
                await connection.execute(_SET_PUBLISHED, done)
        return len(done)

    async def drop_old(self) -> None:
        """See `SweptRows.drop_old`."""
        async with lend(self.pool) as connection:
            await connection.execute(_DROP_KEYS)
            await connection.execute(_DROP_GATEWAYS)

    async def oldest_open_s(self) -> float:
        """See `SweptRows.oldest_open_s`."""
        async with lend(self.pool) as connection:
            return float(await connection.fetchval(_OLDEST))
