"""Answers a question from its evidence: claims it, streams the text, stores the answer, then says that it is done."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from schemas.events import Answer, EvidenceRetrieved
from schemas.ids import QueryId
from streams.errors import Unprocessable
from streams.generate.answerer import Answerer
from streams.generate.stream import ReplyStream, pieces
from streams.ports import Clock, QuestionStore
from streams.runtime.record import FLUSH, Flush, Inbound, Outbound


@dataclass(frozen=True, kw_only=True)
class Generate:
    """Writes answers; of all attempts at one question, the one that stores its answer first ends it."""

    questions: QuestionStore
    answerer: Answerer
    clock: Clock

    async def __call__(self, record: Inbound[EvidenceRetrieved]) -> AsyncIterator[Outbound | Flush]:
        """Yield the tokens and, once the answer is stored, the answer and the end.

        A question that was finished before gets its stored answer and end again, in the places that they had.

        Raises:
            Transient: the store or the model is away.
            Unprocessable: the model refuses, or breaks its own word.
        """
        found = record.event
        if found is None:
            return
        query = QueryId(found.query)
        claimed = await self.questions.claim(query)
        if claimed is None:
            return
        if claimed.answer is not None:
            stream = ReplyStream(found=found, attempt=claimed.attempt, n_stamped=len(pieces(claimed.answer.text)))
            yield stream.answer(claimed.answer)
            yield stream.done(self._elapsed_ms(found))
            return
        stream = ReplyStream(found=found, attempt=claimed.attempt)
        told, answer = "", None
        async for piece in self.answerer(found.text, found.evidence):
            if isinstance(piece, Answer):
                answer = piece
            else:
                told += piece
                yield stream.token(piece)
        if answer is None or answer.text != told:
            raise Unprocessable("answer_broken", "the provider's answer is not the text that it streamed")
        # what the reader was told must stand in the log before the row says that it was told; the whole answer comes
        # after that, so that an attempt which dies before it leaves tokens to void, but no answer
        yield FLUSH
        if await self.questions.finish(query, claimed.attempt, answer):
            yield stream.answer(answer)
            yield stream.done(self._elapsed_ms(found))

    def _elapsed_ms(self, found: EvidenceRetrieved) -> float:
        return float(self.clock.now_ms() - found.asked_ms)
