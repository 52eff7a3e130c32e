"""Scores in the rows of their questions in Postgres."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from schemas.events import Scores
from schemas.ids import QueryId
from streams.adapters.postgres import Pool, lend

_KEEP: Final = """
UPDATE queries SET scores = CASE WHEN scores ->> 'scorer' = $4 THEN scores ELSE $3 END
WHERE id = $1 AND tenant = $2
RETURNING scores
"""


@dataclass(frozen=True, kw_only=True)
class PostgresScores:
    """`ScoreStore` on the table `queries`."""

    pool: "Pool[Any]"

    async def keep(self, query: QueryId, tenant: str, scores: Scores) -> Scores:
        """See `ScoreStore.keep`."""
        async with lend(self.pool) as connection:
            kept = await connection.fetchval(_KEEP, query, tenant, msgspec.to_builtins(scores), scores.scorer)
        return scores if kept is None else msgspec.convert(kept, Scores)
