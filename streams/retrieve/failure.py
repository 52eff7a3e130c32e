"""How a question ends when retrieving gave it up."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from schemas.events import QueryAsked, Reply
from schemas.ids import QueryId
from schemas.topics import ANSWERS
from streams.ports import QuestionStore
from streams.runtime.record import Flush, Inbound, Outbound
from streams.runtime.stage import DeadLetter


@dataclass(frozen=True, kw_only=True)
class EndQuestion:
    """Tells the reader of a dead-lettered question why no answer comes; the dead-letter hook of the stage."""

    questions: QuestionStore

    async def __call__(self, record: Inbound[QueryAsked], letter: DeadLetter) -> AsyncIterator[Outbound | Flush]:
        """End the question's row, then yield its error; nothing where it has ended already or cannot be read.

        Raises:
            Transient: the store is away.
        """
        question = record.event
        if question is None:
            return
        # a bare search has no row
        if question.kind == "answer" and not await self.questions.fail(
            QueryId(question.query), letter.reason, letter.message
        ):
            return
        reply = Reply(
            query=question.query,
            tenant=question.tenant,
            type="error",
            attempt=0,
            seq=1,
            error=letter.reason,
            message=letter.message,
        )
        yield Outbound(topic=ANSWERS, key=question.query.encode(), event=reply, partition=question.reply_partition)
