"""Scores answers after they were given: for the stream that may still be open, the question's row and the evals."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from schemas.events import Filters, QueryFinished, QueryScored, Reply
from schemas.ids import ChunkId, QueryId
from schemas.topics import ANSWERS, SCORES
from streams.ports import Clock, Encoder, PassageStore, ScoreStore
from streams.runtime.record import Flush, Inbound, Outbound
from streams.score.scorer import score


@dataclass(frozen=True, kw_only=True)
class Score:
    """The handler of the results topic.

    Attributes:
        passages: what the reader of the answer may still read.
        encoder: of the generation; asked only where `score` needs it.
        scores: keeps them beside the question.
        clock: stamps them.
    """

    passages: PassageStore
    encoder: Encoder
    scores: ScoreStore
    clock: Clock

    async def __call__(self, record: Inbound[QueryFinished]) -> AsyncIterator[Outbound | Flush]:
        """Yield the scores for the reader, then for `evaluate`; nothing for a question that was not answered.

        A result that comes again gets the scores that it got before. They are stored first, so that whoever has seen
        them finds them.

        Raises:
            Transient: a store or the encoder is away.
        """
        result = record.event
        if result is None or result.outcome != "done" or result.answer is None:
            return
        found = {hit.chunk for hit in result.hits} | {citation.chunk for citation in result.answer.citations}
        chunks = [ChunkId(chunk) for chunk in sorted(found)]
        passages = await self.passages.passages(result.tenant, chunks, Filters(groups=result.groups))
        fresh = await score(result, passages, self.encoder)
        scores = await self.scores.keep(QueryId(result.query), result.tenant, fresh)
        key = result.query.encode()
        reply = Reply(
            query=result.query, tenant=result.tenant, type="score", attempt=result.attempt, seq=-1, scores=scores
        )
        yield Outbound(topic=ANSWERS, key=key, event=reply, partition=result.reply_partition)
        scored = QueryScored(
            query=result.query,
            tenant=result.tenant,
            attempt=result.attempt,
            scores=scores,
            scored_ms=self.clock.now_ms(),
        )
        yield Outbound(topic=SCORES, key=key, event=scored)
