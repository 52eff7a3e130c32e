"""Best chunks by words and by vector, in OpenSearch."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from re import compile
from typing import Any, Final

from opensearchpy import AsyncOpenSearch

from schemas.events import Filters
from schemas.ids import ChunkId
from streams.adapters.opensearch import asking
from streams.adapters.opensearch_filters import conditions
from streams.adapters.opensearch_index import clean
from streams.breaker import Breaker
from streams.errors import StreamError, Transient
from streams.index_opensearch.handler import OPENSEARCH
from streams.ports import Candidate, Vectors

CANDIDATES_MIN: Final = 100
"""Neighbours that the graph of each segment is searched for, so that the first few are the right ones."""
SEARCH_TIMEOUT_S: Final = 3.0
"""As long as a part may take to answer before it counts as away."""
LIMIT_MAX: Final = 10_000
"""OpenSearch's own bound, of both searches."""

PAUSE_MAX_S: Final = 10.0
"""So soon after it is well again it is asked again."""

_WORDS_MAX: Final = 256
_WORD = compile(r"[^\W_]+")


def new_breaker() -> Breaker:
    """Return one for all rankers of an index: each question waits for a silent OpenSearch otherwise."""
    return Breaker(pause_max_s=PAUSE_MAX_S)


@dataclass(frozen=True, kw_only=True)
class OpensearchLexical:
    """`LexicalRanker` on the index of a generation.

    Attributes:
        client: to OpenSearch.
        index: name of the index.
        breaker: while it is open nothing is asked, and `Transient` is raised at once.
    """

    client: AsyncOpenSearch
    index: str
    breaker: Breaker = field(default_factory=new_breaker)

    async def matching(self, tenant: str, text: str, filters: Filters, limit: int) -> list[Candidate]:
        """See `LexicalRanker.matching`; of a long text the first 256 different words."""
        words = list(dict.fromkeys(_WORD.findall(clean(text).lower())))[:_WORDS_MAX]
        if not words or limit < 1:
            return []
        query = {
            "bool": {
                "must": {"match": {"text": {"query": " ".join(words)}}},
                "filter": conditions(tenant, filters),
            }
        }
        return [Candidate(chunk=name, score=score) for name, score in await _found(self, query, limit)]


@dataclass(frozen=True, kw_only=True)
class OpensearchVectors:
    """`DenseRanker` on the index of a generation.

    The filter is applied while the graph is walked; where it keeps few chunks, they are searched exactly.

    Attributes:
        client: to OpenSearch.
        index: name of the index.
        breaker: while it is open nothing is asked, and `Transient` is raised at once.
    """

    client: AsyncOpenSearch
    index: str
    breaker: Breaker = field(default_factory=new_breaker)

    async def nearest(self, tenant: str, vector: Vectors, filters: Filters, limit: int) -> list[Candidate]:
        """See `DenseRanker.nearest`; `vector` has shape (dim,) or (1, dim)."""
        wanted = {
            "vector": vector.reshape(-1).tolist(),
            "k": min(max(limit, CANDIDATES_MIN), LIMIT_MAX),
            "filter": {"bool": {"filter": conditions(tenant, filters)}},
        }
        found = await _found(self, {"knn": {"vector": wanted}}, limit)
        # Lucene's score of a cosine c is (1 + c) / 2
        return [Candidate(chunk=name, score=2 * score - 1) for name, score in found]


async def _found(
    ranker: OpensearchLexical | OpensearchVectors, query: Mapping[str, Any], limit: int
) -> Sequence[tuple[ChunkId, float]]:
    body = {
        "query": query,
        "size": min(limit, LIMIT_MAX),
        "_source": False,
        "docvalue_fields": ["chunk"],
        "track_total_hits": False,
    }
    with _admitted(ranker.breaker):
        answer = await ranker.client.search(index=ranker.index, body=body, params={"request_timeout": SEARCH_TIMEOUT_S})
    return [(ChunkId(hit["fields"]["chunk"][0]), hit["_score"]) for hit in answer["hits"]["hits"]]


@contextmanager
def _admitted(breaker: Breaker) -> Iterator[None]:
    """As `asking`, unless OpenSearch failed lately."""
    if not breaker.admit():
        raise Transient("OpenSearch failed lately and is left alone for some seconds", part=OPENSEARCH)
    try:
        with asking():
            yield
    except StreamError as error:
        # what it refuses, it has answered
        breaker.settle(well=not (isinstance(error, Transient) and error.part == OPENSEARCH))
        raise
    except BaseException:
        breaker.abandon()
        raise
    breaker.settle(well=True)
