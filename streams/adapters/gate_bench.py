"""Asks a generation as the retrieve and generate stages would, for the gate: nothing is published."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from schemas.events import Answer, Evidence, EvidenceRetrieved, QueryAsked
from schemas.ids import new_query_id
from schemas.topics import QUERIES
from streams.errors import Transient, Unprocessable
from streams.generate.answerer import Answerer
from streams.generate.extractive import Extractive
from streams.generate.prompt import pack
from streams.operator.gate.bench import DEPTH, Asked, Hit
from streams.operator.gate.question import Question
from streams.ports import Clock
from streams.runtime.record import Handler, Inbound, Origin, Outbound

PASSAGES: Final = 8
"""Passages that an answerer is given, unless a question asks for another number."""
_DEADLINE_MS: Final = 30_000
_NOWHERE: Final = Origin(topic=QUERIES.name, topic_id="", partition=-1, offset=-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a generation makes of a question, whole. `seconds` are those of retrieval."""

    found: list[Evidence]
    answer: Answer
    seconds: float


@dataclass(frozen=True, kw_only=True)
class HandlerBench:
    """`Bench` on the handlers of live questions.

    Attributes:
        exists: tells whether there is a generation of this name that could be open.
        search: returns the handler of its questions; raises `Transient` while it is not open here.
        clock: gives the questions their deadline.
        context_tokens: most tokens of passages that the answerer is given, estimated.
        passages: most passages that it is given.
        answerer: writes the answers that are compared.
    """

    exists: Callable[[str], Awaitable[bool]]
    search: Callable[[str], Awaitable[Handler[QueryAsked]]]
    clock: Clock
    context_tokens: int
    passages: int = PASSAGES
    answerer: Answerer = field(default_factory=Extractive)

    async def ask(self, generation: str, question: Question) -> Asked:
        """See `Bench.ask`."""
        return self.asked(await self.answered(generation, question))

    async def answered(self, generation: str, question: Question) -> Answered:
        """Ask one question, and return all that was made of it; raises as `Bench.ask` does."""
        if not await self.exists(generation):
            raise Unprocessable("no_generation", f"there is no index generation {generation!r} that can be asked")
        handler = await self.search(generation)
        began = time.perf_counter()
        found = await self._evidence(handler, generation, question)
        seconds = time.perf_counter() - began
        answer = await self._answer(question.text, found[: self.passages])
        return Answered(found=found, answer=answer, seconds=seconds)

    def asked(self, answered: Answered, scores: Mapping[str, float] | None = None) -> Asked:
        """Return what is measured of it."""
        return Asked(
            hits=[
                Hit(document=each.document, chunk=each.chunk, text=each.text, score=each.score)
                for each in answered.found[:DEPTH]
            ],
            context=pack(answered.found[: self.passages], self.context_tokens),
            answer=answered.answer.text,
            abstained=answered.answer.abstained,
            seconds=answered.seconds,
            scores=scores or {},
        )

    async def _evidence(self, handler: Handler[QueryAsked], generation: str, question: Question) -> list[Evidence]:
        now_ms = self.clock.now_ms()
        asked = QueryAsked(
            query=new_query_id(),
            tenant=question.tenant,
            text=question.text,
            kind="answer",
            top_k=DEPTH,
            reply_partition=0,
            deadline_ms=now_ms + _DEADLINE_MS,
            asked_ms=now_ms,
            generation=generation,
            filters=question.filters,
        )
        record = Inbound(key=asked.query.encode(), event=asked, raw=None, origin=_NOWHERE, timestamp_ms=now_ms)
        async for out in handler(record):
            if isinstance(out, Outbound) and isinstance(out.event, EvidenceRetrieved):
                return out.event.evidence
        raise Transient(f"index generation {generation!r} gave no evidence in time")

    async def _answer(self, text: str, given: list[Evidence]) -> Answer:
        async for piece in self.answerer(text, given):
            if isinstance(piece, Answer):
                return piece
        raise Transient("the answerer ended without an answer")
