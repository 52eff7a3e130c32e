"""How a question ends when generating gave it up."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from schemas.events import EvidenceRetrieved, Reply
from schemas.ids import QueryId
from schemas.topics import ANSWERS
from streams.ports import QuestionStore
from streams.runtime.record import Flush, Inbound, Outbound
from streams.runtime.stage import DeadLetter


@dataclass(frozen=True, kw_only=True)
class EndQuestion:
    """Tells the reader of a dead-lettered question why no answer comes; the dead-letter hook of the stage."""

    questions: QuestionStore

    async def __call__(self, record: Inbound[EvidenceRetrieved], letter: DeadLetter) -> AsyncIterator[Outbound | Flush]:
        """End the question's row, then yield its error; nothing where it has ended already or cannot be read.

        Raises:
            Transient: the store is away.
        """
        found = record.event
        if found is None:
            return
        query = QueryId(found.query)
        if not await self.questions.fail(query, letter.reason, letter.message):
            return
        reply = Reply(
            query=found.query,
            tenant=found.tenant,
            type="error",
            attempt=0,
            seq=1,
            error=letter.reason,
            message=letter.message,
        )
        yield Outbound(topic=ANSWERS, key=query.encode(), event=reply, partition=found.reply_partition)
