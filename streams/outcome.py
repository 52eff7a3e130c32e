"""How documents and questions end whose record was given up: the dead-letter hooks of the stages."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from schemas.events import EvidenceRetrieved, QueryAsked, Reply
from schemas.ids import InvalidId, QueryId, parse_document_key
from schemas.topics import ANSWERS
from streams.ports import Clock, QuestionStore
from streams.progress import became
from streams.runtime.record import Flush, Inbound, Outbound
from streams.runtime.stage import DeadLetter


@dataclass(frozen=True, kw_only=True)
class FailedDocument:
    """`on_dead_letter` of the document stages after intake: the status becomes `failed`, with the reason.

    Attributes:
        stage: name of the stage.
        clock: stamps the event.
    """

    stage: str
    clock: Clock

    async def __call__(self, record: Inbound[Any], letter: DeadLetter) -> AsyncIterator[Outbound | Flush]:
        """Say that this version failed; a record without a document key and a version is nobody's and says nothing."""
        try:
            key = parse_document_key(record.key)
        except InvalidId:
            return
        version = record.version or getattr(record.event, "version", None)
        if version is not None:
            reason, message = letter.reason, letter.message
            yield became("failed", key, version, stage=self.stage, clock=self.clock, reason=reason, message=message)


@dataclass(frozen=True, kw_only=True)
class FailedQuestion:
    """`on_dead_letter` of the question stages: the reader is told why no answer comes."""

    questions: QuestionStore

    async def __call__(
        self, record: Inbound[QueryAsked | EvidenceRetrieved], letter: DeadLetter
    ) -> AsyncIterator[Outbound | Flush]:
        """End the question's row, then yield its error; nothing where it has ended already or cannot be read.

        Raises:
            Transient: the store is away.
        """
        event = record.event
        if event is None:
            return
        # a bare search has no row
        has_row = not isinstance(event, QueryAsked) or event.kind == "answer"
        if has_row and not await self.questions.fail(QueryId(event.query), letter.reason, letter.message):
            return
        reply = Reply(
            query=event.query,
            tenant=event.tenant,
            type="error",
            attempt=0,
            seq=1,
            error=letter.reason,
            message=letter.message,
        )
        yield Outbound(topic=ANSWERS, key=event.query.encode(), event=reply, partition=event.reply_partition)
