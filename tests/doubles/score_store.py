"""Scores beside their questions, in memory."""

from dataclasses import dataclass, field

from schemas.events import Scores
from schemas.ids import QueryId


@dataclass(kw_only=True)
class MemoryScores:
    """`ScoreStore` in memory; a test says which questions there are, by id and tenant."""

    rows: dict[tuple[QueryId, str], Scores | None] = field(default_factory=dict)

    async def keep(self, query: QueryId, tenant: str, scores: Scores) -> Scores:
        if (query, tenant) not in self.rows:
            return scores
        held = self.rows[query, tenant]
        if held is None or held.scorer != scores.scorer:
            held = self.rows[query, tenant] = scores
        return held
