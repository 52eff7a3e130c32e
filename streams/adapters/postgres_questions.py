"""Rows of accepted questions in Postgres; every change is a compare-and-set by the clock of Postgres."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from schemas.events import Answer
from schemas.ids import QueryId
from streams.adapters.postgres import Pool, lend
from streams.ports import Claimed

_CLAIM: Final = """
UPDATE queries SET state = 'claimed', attempt = attempt + 1, claimed_at = now()
WHERE id = $1 AND state IN ('pending', 'claimed') AND deadline > now()
RETURNING attempt
"""

_ANSWERED: Final = "SELECT attempt, answer FROM queries WHERE id = $1 AND state = 'finished' AND answer IS NOT NULL"

_FINISH: Final = """
UPDATE queries SET state = 'finished', answer = $3, finished_at = now()
WHERE id = $1 AND state = 'claimed' AND attempt = $2 AND deadline > now()
RETURNING id
"""

_FAIL: Final = """
UPDATE queries SET state = 'finished', error = $2, finished_at = now()
WHERE id = $1 AND state IN ('pending', 'claimed')
RETURNING id
"""


@dataclass(frozen=True, kw_only=True)
class PostgresQuestions:
    """`QuestionStore` on the table `queries`."""

    pool: "Pool[Any]"

    async def claim(self, query: QueryId) -> Claimed | None:
        """See `QuestionStore.claim`. A question that was answered in time is given back whenever it is asked for."""
        async with lend(self.pool) as connection:
            attempt = await connection.fetchval(_CLAIM, query)
            if attempt is not None:
                return Claimed(attempt=attempt)
            row = await connection.fetchrow(_ANSWERED, query)
        if row is None:
            return None
        return Claimed(attempt=row["attempt"], answer=msgspec.convert(row["answer"], Answer))

    async def finish(self, query: QueryId, attempt: int, answer: Answer) -> bool:
        """See `QuestionStore.finish`; False past the deadline too, when the gateway ends the question."""
        async with lend(self.pool) as connection:
            return await connection.fetchval(_FINISH, query, attempt, msgspec.to_builtins(answer)) is not None

    async def fail(self, query: QueryId, reason: str, message: str) -> bool:
        """See `QuestionStore.fail`."""
        async with lend(self.pool) as connection:
            return await connection.fetchval(_FAIL, query, {"reason": reason, "message": message}) is not None
