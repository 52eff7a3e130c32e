"""Nearest chunks by vector, in memory."""

from dataclasses import dataclass

from schemas.events import Filters
from streams.ports import Candidate, Vectors
from tests.doubles.generation_store import MemoryGeneration
from tests.doubles.passage_store import may_see


@dataclass(kw_only=True)
class MemoryDenseRanker:
    """`DenseRanker` on a `MemoryGeneration`, exact."""

    generation: MemoryGeneration

    async def nearest(self, tenant: str, vector: Vectors, filters: Filters, limit: int) -> list[Candidate]:
        found = []
        for name, row in self.generation.chunks.items():
            live = self.generation.live[row.key]
            if live.document is not None and may_see(tenant, filters, live.document):
                score = float(vector.reshape(-1) @ row.vector.reshape(-1))
                found.append(Candidate(chunk=name, score=score))
        return sorted(found, key=lambda candidate: (-candidate.score, candidate.chunk))[:limit]
