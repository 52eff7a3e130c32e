"""Answers a question with the evidence for it: rankers propose, the serving fence decides what may be shown."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from schemas import conditions
from schemas.events import Evidence, EvidenceRetrieved, Filters, QueryAsked, Reply
from schemas.topics import ANSWERS, RETRIEVALS
from streams.errors import Transient, Unprocessable
from streams.ports import Candidate, Clock, DenseRanker, LexicalRanker, Passage, PassageStore, QuestionVectors, Vectors
from streams.retrieve.fusion import DENSE, LEXICAL, Fused, fuse
from streams.runtime.record import FLUSH, Flush, Inbound, Outbound

HYBRID = "hybrid"


@dataclass(frozen=True, kw_only=True)
class Retrieve:
    """Finds evidence; a broken ranker fails the whole question, because half a search would look like a whole one.

    One that is `dispensable` fails it only where no other one was asked: the reader is told what it was found without.

    Attributes:
        depth: candidates asked of each ranker at first; more are asked where the fence leaves fewer than `top_k`.
        depth_max: most candidates asked of each ranker.
        dispensable: rankers in a store that may be away while the others answer.
        on_without: told of each ranker that a question was answered without.
    """

    vectors: QuestionVectors
    dense: DenseRanker
    lexical: LexicalRanker
    passages: PassageStore
    clock: Clock
    depth: int = 100
    depth_max: int = 3200
    dispensable: frozenset[str] = frozenset()
    on_without: Callable[[str], None] = lambda ranker: None

    async def __call__(self, record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        """Yield the sources (or the hits of a bare search) for the reader, then the evidence for `generate`.

        Raises:
            Transient: the encoder, a ranker or the store is away.
            Unprocessable: the question names a ranker that there is not, or its condition cannot be read.
        """
        question, started_ms = record.event, self.clock.now_ms()
        if question is None or started_ms >= question.deadline_ms:
            return
        evidence, without = await self._evidence(question)
        for ranker in without:
            self.on_without(ranker)
        elapsed_ms = float(self.clock.now_ms() - started_ms)
        key = question.query.encode()
        shown = [replace(found, sentences=[], sentence_scores=[]) for found in evidence]
        reply = Reply(
            query=question.query,
            tenant=question.tenant,
            type="sources" if question.kind == "answer" else "hits",
            attempt=0,
            seq=0,
            evidence=shown,
            elapsed_ms=elapsed_ms,
            without=without,
        )
        yield Outbound(topic=ANSWERS, key=key, event=reply, partition=question.reply_partition)
        if question.kind != "answer":
            return
        # the reader must have the sources before a token can come
        yield FLUSH
        found = EvidenceRetrieved(
            query=question.query,
            tenant=question.tenant,
            text=question.text,
            reply_partition=question.reply_partition,
            deadline_ms=question.deadline_ms,
            asked_ms=question.asked_ms,
            generation=question.generation,
            evidence=evidence,
            user=question.user,
            retrieve_ms=elapsed_ms,
            groups=question.filters.groups,
            without=without,
        )
        yield Outbound(topic=RETRIEVALS, key=key, event=found)

    async def _evidence(self, question: QueryAsked) -> tuple[list[Evidence], list[str]]:
        """Return the evidence, best first, and the rankers that it was found without."""
        rankers = _rankers(question.rankers)
        _check_condition(question.filters)
        vector = await self.vectors.vector(question.tenant, question.text)
        depth = max(self.depth, 2 * question.top_k)
        while True:
            rankings = await self._rank(rankers, question, vector, depth)
            shown = await self._behind_the_fence(fuse(rankings), question)
            exhausted = all(len(candidates) < depth for candidates in rankings.values())
            if len(shown) >= question.top_k or exhausted or depth >= self.depth_max:
                without = [ranker for ranker in rankers if ranker not in rankings]
                return [_evidence(fused, passage, vector) for fused, passage in shown], without
            depth = min(4 * depth, self.depth_max)

    async def _rank(
        self, rankers: Sequence[str], question: QueryAsked, vector: Vectors, depth: int
    ) -> dict[str, list[Candidate]]:
        """Ask the rankers; those that are missing are dispensable and away."""
        tenant, filters = question.tenant, question.filters
        searches = {
            DENSE: lambda: self.dense.nearest(tenant, vector, filters, depth),
            LEXICAL: lambda: self.lexical.matching(tenant, question.text, filters, depth),
        }
        answers = await asyncio.gather(*(searches[name]() for name in rankers), return_exceptions=True)
        found: dict[str, list[Candidate]] = {}
        failures: list[BaseException] = []
        for name, answer in zip(rankers, answers, strict=True):
            if not isinstance(answer, BaseException):
                found[name] = answer
            elif isinstance(answer, Transient) and name in self.dispensable:
                failures.append(answer)
            else:
                raise answer
        if not found:
            raise failures[0]
        return found

    async def _behind_the_fence(self, fused: Sequence[Fused], question: QueryAsked) -> list[tuple[Fused, Passage]]:
        """Return the best `top_k` that may be shown, read in slices so that the usual question reads few rows."""
        shown: list[tuple[Fused, Passage]] = []
        slice_size = question.top_k + 10
        for begin in range(0, len(fused), slice_size):
            proposed = fused[begin : begin + slice_size]
            chunks = [one.chunk for one in proposed]
            allowed = await self.passages.passages(question.tenant, chunks, question.filters)
            shown += [(one, allowed[one.chunk]) for one in proposed if one.chunk in allowed]
            if len(shown) >= question.top_k:
                break
        return shown[: question.top_k]


def _rankers(asked: Sequence[str]) -> list[str]:
    unknown = sorted(set(asked) - {DENSE, LEXICAL, HYBRID})
    if unknown or not asked:
        raise Unprocessable("unknown_ranker", f"rankers {unknown!r}: expected some of 'dense', 'lexical', 'hybrid'")
    return [DENSE, LEXICAL] if HYBRID in asked else sorted(set(asked))


def _check_condition(filters: Filters) -> None:
    try:
        conditions.parse(filters.where or {})
    except conditions.InvalidCondition as error:
        raise Unprocessable("bad_filter", f"'filters.where' {error}") from error


def _evidence(fused: Fused, passage: Passage, vector: Vectors) -> Evidence:
    cosines = passage.sentence_vectors @ np.reshape(vector, -1)
    return Evidence(
        document=passage.document,
        version=passage.version,
        chunk=passage.chunk,
        text=passage.text,
        start=passage.start,
        end=passage.end,
        score=fused.score,
        scores=dict(fused.scores),
        title=passage.title,
        uri=passage.uri,
        headings=list(passage.headings),
        collection=passage.collection,
        metadata=dict(passage.metadata),
        sentences=list(passage.sentences),
        sentence_scores=[round(float(cosine), 6) for cosine in cosines],
        page=passage.page,
    )
