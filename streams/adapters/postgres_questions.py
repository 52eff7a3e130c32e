"""Rows of accepted questions in Postgres; every change is a compare-and-set by the clock of Postgres."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from schemas.ids import QueryId
from streams.adapters.postgres import Pool, lend
from streams.ports import Claimed, Ended, Ending, Renewed

_CANCEL_ASKED: Final = "extract(epoch FROM now() - cancel_requested_at)::float8 AS cancel_asked_s"

# the inner query still sees the row as it was before; what was given back is claimed by nobody
_CLAIM: Final = f"""
UPDATE queries SET
    state = 'claimed', attempt = attempt + 1, claimed_at = now(),
    lapses = lapses + coalesce(state = 'claimed' AND claimed_by <> $2, false)::int,
    claimed_by = $2, lease_until = now() + make_interval(secs => $3)
WHERE id = $1 AND deadline > now()
  AND (state = 'pending' OR state = 'claimed' AND (claimed_by = $2 OR lease_until <= now()))
RETURNING attempt, lapses, extract(epoch FROM deadline - now())::float8 AS left_s, {_CANCEL_ASKED},
    attempt > 1 AND (SELECT claimed_by FROM queries WHERE id = $1) IS DISTINCT FROM $2 AS taken_over
"""

_RENEW: Final = f"""
UPDATE queries SET lease_until = now() + make_interval(secs => $4)
WHERE id = $1 AND state = 'claimed' AND attempt = $2 AND claimed_by = $3
RETURNING {_CANCEL_ASKED}
"""

_RELEASE: Final = """
UPDATE queries SET lease_until = now(), claimed_by = NULL
WHERE id = $1 AND state = 'claimed' AND attempt = $2 AND claimed_by = $3
"""

_END: Final = """
UPDATE queries SET
    state = 'finished', finished_at = now(), outcome = $2, terminal_seq = $3, answer = $4, hits = $5, retrieve_ms = $6,
    error = $7
WHERE id = $1 AND {condition}
RETURNING attempt, (extract(epoch FROM finished_at) * 1000)::bigint AS finished_ms
"""

_FINISH: Final = _END.format(
    condition="state = 'claimed' AND attempt = $8 AND claimed_by = $9 AND deadline > now() "
    "AND ($2 <> 'done' OR cancel_requested_at IS NULL)"
)

_FAIL: Final = _END.format(
    condition="(state = 'pending' OR state = 'claimed' AND (claimed_by = $8 OR lease_until <= now()))"
)

_PUBLISHED: Final = "UPDATE queries SET published_at = coalesce(published_at, now()) WHERE id = $1"


@dataclass(frozen=True, kw_only=True)
class PostgresQuestions:
    """`QuestionStore` on the table `queries`.

    Attributes:
        worker: names this process; no other one ever had the name.
        lease_s: how long a claim holds without being renewed, seconds.
    """

    pool: "Pool[Any]"
    worker: str
    lease_s: float

    async def claim(self, query: QueryId) -> Claimed | None:
        """See `QuestionStore.claim`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(_CLAIM, query, self.worker, self.lease_s)
        return None if row is None else Claimed(**dict(row))

    async def renew(self, query: QueryId, attempt: int) -> Renewed | None:
        """See `QuestionStore.renew`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(_RENEW, query, attempt, self.worker, self.lease_s)
        return None if row is None else Renewed(**dict(row))

    async def release(self, query: QueryId, attempt: int) -> None:
        """See `QuestionStore.release`."""
        async with lend(self.pool) as connection:
            await connection.execute(_RELEASE, query, attempt, self.worker)

    async def finish(self, query: QueryId, attempt: int, ending: Ending) -> Ended | None:
        """See `QuestionStore.finish`."""
        return await self._end(_FINISH, query, ending, attempt, self.worker)

    async def fail(self, query: QueryId, ending: Ending) -> Ended | None:
        """See `QuestionStore.fail`."""
        return await self._end(_FAIL, query, ending, self.worker)

    async def published(self, query: QueryId) -> None:
        """See `QuestionStore.published`."""
        async with lend(self.pool) as connection:
            await connection.execute(_PUBLISHED, query)

    async def _end(self, statement: str, query: QueryId, ending: Ending, *who: Any) -> Ended | None:
        answer = None if ending.answer is None else msgspec.to_builtins(ending.answer)
        error = None if ending.reason is None else {"reason": ending.reason, "message": ending.message}
        values = (ending.outcome, ending.terminal_seq, answer, msgspec.to_builtins(ending.hits), ending.retrieve_ms)
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(statement, query, *values, error, *who)
        return None if row is None else Ended(**dict(row))
