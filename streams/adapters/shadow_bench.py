"""Asks a question of two generations and scores both answers, for shadows: nothing is published."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from schemas.events import Evidence, QueryFinished
from schemas.ids import ChunkId
from streams.adapters.gate_bench import Answered, HandlerBench
from streams.operator.gate.bench import Asked
from streams.operator.gate.question import Question
from streams.outcome import hits_of
from streams.ports import Encoder, Passage
from streams.score.scorer import relevance, score

_NO_VECTORS: Final = np.empty((0, 0), np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """What the answers of a pair are scored with.

    Attributes:
        encoder: of the generation that answers.
        shared: the candidate has the same one, so what retrieval found needs no encoding again.
    """

    encoder: Encoder
    shared: bool


@dataclass(frozen=True, kw_only=True)
class ScoredBench:
    """`ShadowBench` on the handlers of live questions, and on the scorer of live answers.

    Attributes:
        bench: asks one generation.
        judge: of base and candidate.
    """

    bench: HandlerBench
    judge: Callable[[str, str], Awaitable[Judge]]

    async def ask(self, base: str, candidate: str, question: Question) -> tuple[Asked, Asked]:
        """See `ShadowBench.ask`."""
        first = await self.bench.answered(base, question)
        second = await self.bench.answered(candidate, question)
        judge = await self.judge(base, candidate)
        return (
            self.bench.asked(first, await self._scores(base, question, first, judge)),
            self.bench.asked(second, await self._scores(candidate, question, second, judge)),
        )

    async def _scores(
        self, generation: str, question: Question, answered: Answered, judge: Judge
    ) -> Mapping[str, float]:
        """Return the scores that there are; as cosines of two embedders have no common scale, one encoder makes all."""
        given = answered.found[: self.bench.passages]
        result = QueryFinished(
            query="",
            tenant=question.tenant,
            text=question.text,
            outcome="done",
            attempt=1,
            generation=generation,
            reply_partition=0,
            asked_ms=0,
            finished_ms=0,
            hits=hits_of(given),
            answer=answered.answer,
        )
        scores = await score(result, {ChunkId(each.chunk): _passage(each) for each in given}, judge.encoder)
        found = scores.relevance if judge.shared else await relevance(question.text, answered.answer, judge.encoder)
        told = {"faithfulness": scores.faithfulness, "relevance": found}
        return {name: value for name, value in told.items() if value is not None}


def _passage(evidence: Evidence) -> Passage:
    """Return what the scorer reads of a passage. Quotes are held against its words; its vectors are not needed."""
    return Passage(
        chunk=ChunkId(evidence.chunk),
        document=evidence.document,
        version=evidence.version,
        ordinal=0,
        text=evidence.text,
        start=evidence.start,
        end=evidence.end,
        headings=evidence.headings,
        sentences=evidence.sentences,
        sentence_vectors=_NO_VECTORS,
        title=evidence.title,
    )
