"""Merges what is known of a question into one row and logs the row for trainers."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.events import FeedbackGiven, QueryFinished, QueryScored
from schemas.ids import QueryId
from schemas.topics import EVALS
from streams.evaluate.fields import logged, of_feedback, of_result, of_scores
from streams.ports import EvalPart, EvalStore
from streams.runtime.record import FLUSH, Flush, Inbound, Outbound

Told = QueryFinished | QueryScored | FeedbackGiven


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """The handler of results, scores and feedback, which come in any order and may come again."""

    evals: EvalStore

    async def __call__(self, record: Inbound[Told]) -> AsyncIterator[Outbound | Flush]:
        """Yield the whole row, once the result of the question is there.

        Two workers may merge parts of one question at once, and Kafka may take the older row last. So each looks again
        once its row is in Kafka, and logs the row again where it has changed: the last one to look finds the newest
        row, and the last record of a question is that row.

        Raises:
            Transient: the store is away.
        """
        told = record.event
        if told is None:
            return
        query = QueryId(told.query)
        row = await self.evals.merge(query, told.tenant, *_part(told))
        published = None
        while row is not None and row.result is not None and row.revision != published:
            yield Outbound(topic=EVALS, key=told.query.encode(), event=logged(told.query, told.tenant, row))
            yield FLUSH
            published = row.revision
            row = await self.evals.read(query, told.tenant)


def _part(told: Told) -> tuple[EvalPart, Mapping[str, Any]]:
    match told:
        case QueryFinished():
            return "result", of_result(told)
        case QueryScored():
            return "scores", of_scores(told)
        case FeedbackGiven():
            return "feedback", of_feedback(told)
