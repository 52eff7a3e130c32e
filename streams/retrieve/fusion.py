"""One order out of what the dense and the lexical ranker propose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.ids import ChunkId
from streams.ports import Candidate

DENSE: Final = "dense"
LEXICAL: Final = "lexical"
LEXICAL_WEIGHT: Final = 0.3
"""What the best lexical match adds to its cosine. From .15 to .3 no open half ranks below its best single ranker:
`python -m tests.bench.retrieval`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fused:
    """A chunk that at least one ranker proposed. `score` orders; `scores` holds each ranker's own, by its name."""

    chunk: ChunkId
    score: float
    scores: Mapping[str, float]


def fuse(rankings: Mapping[str, Sequence[Candidate]], lexical_weight: float = LEXICAL_WEIGHT) -> list[Fused]:
    """Add to each chunk's cosine its BM25 score as a share of the best one.

    Scores say by how much one chunk beats the next, which ranks forget: where one ranker is sure and the other is not,
    the sure one decides. Cosines are left as they are, because they compare across questions; BM25 does not.
    A chunk that only the lexical ranker proposed counts as similar as the least similar one that the dense ranker did.

    Args:
        rankings: candidates by name of the ranker (DENSE, LEXICAL; one may be absent), each chunk at most once.
        lexical_weight: what the best lexical match adds.

    Returns:
        Best first; equal scores by chunk id, so that the order is the same every time.
    """
    if LEXICAL not in rankings or DENSE not in rankings:
        fused = {c.chunk: c.score for candidates in rankings.values() for c in candidates}
    else:
        cosines = {c.chunk: c.score for c in rankings[DENSE]}
        matches = {c.chunk: c.score for c in rankings[LEXICAL]}
        floor = min(cosines.values(), default=0.0)
        best = max(matches.values(), default=0.0) or 1.0
        fused = {
            chunk: cosines.get(chunk, floor) + lexical_weight * matches.get(chunk, 0.0) / best
            for chunk in cosines.keys() | matches.keys()
        }
    scores: dict[ChunkId, dict[str, float]] = {chunk: {} for chunk in fused}
    for name, candidates in rankings.items():
        for candidate in candidates:
            scores[candidate.chunk][name] = candidate.score
    order = sorted(fused, key=lambda chunk: (-fused[chunk], chunk))
    return [Fused(chunk=chunk, score=fused[chunk], scores=scores[chunk]) for chunk in order]
