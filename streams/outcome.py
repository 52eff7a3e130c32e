"""How documents and questions end whose record was given up: the dead-letter hooks of the stages."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.events import Evidence, EvidenceRetrieved, Hit, QueryAsked, QueryFinished, Reply
from schemas.ids import InvalidId, QueryId, parse_document_key
from schemas.topics import ANSWERS, RESULTS
from streams.ports import Clock, Ended, Ending, QuestionStore
from streams.progress import became
from streams.runtime.record import FLUSH, Flush, Inbound, Outbound
from streams.runtime.stage import DeadLetter

_NO_PLACE = -1


@dataclass(frozen=True, kw_only=True)
class FailedDocument:
    """`on_dead_letter` of the document stages after intake: the status becomes `failed`, with the reason.

    Attributes:
        stage: name of the stage.
        clock: stamps the event.
        generation: in which it failed; None: in all.
    """

    stage: str
    clock: Clock
    generation: str | None = None

    async def __call__(self, record: Inbound[Any], letter: DeadLetter) -> AsyncIterator[Outbound | Flush]:
        """Say that this version failed; a record without a document key and a version is nobody's and says nothing."""
        try:
            key = parse_document_key(record.key)
        except InvalidId:
            return
        version = record.version or getattr(record.event, "version", None)
        if version is not None:
            yield became(
                "failed",
                key,
                version,
                stage=self.stage,
                clock=self.clock,
                generation=self.generation,
                reason=letter.reason,
                message=letter.message,
            )


@dataclass(frozen=True, kw_only=True)
class FailedQuestion:
    """`on_dead_letter` of the question stages: the reader is told why no answer comes."""

    questions: QuestionStore

    async def __call__(
        self, record: Inbound[QueryAsked | EvidenceRetrieved], letter: DeadLetter
    ) -> AsyncIterator[Outbound | Flush]:
        """End the question's row, then yield its error and its result; nothing where the row has ended already, is
        held by another worker, or cannot be read.

        Raises:
            Transient: the store is away.
        """
        event = record.event
        if event is None:
            return
        if isinstance(event, QueryAsked) and event.kind != "answer":
            # a bare search has no row
            yield _error(event, letter, attempt=0)
            return
        found = event if isinstance(event, EvidenceRetrieved) else None
        ending = Ending(
            outcome="error",
            terminal_seq=_NO_PLACE,
            hits=hits_of(found.evidence) if found else (),
            retrieve_ms=found.retrieve_ms if found else None,
            reason=letter.reason,
            message=letter.message,
        )
        ended = await self.questions.fail(QueryId(event.query), ending)
        if ended is None:
            return
        yield _error(event, letter, attempt=ended.attempt)
        yield Outbound(topic=RESULTS, key=event.query.encode(), event=result(event, ending, ended))
        yield FLUSH
        await self.questions.published(QueryId(event.query))


def hits_of(evidence: Sequence[Evidence]) -> list[Hit]:
    """Return passages by reference, in their order."""
    return [
        Hit(
            document=one.document,
            version=one.version,
            chunk=one.chunk,
            score=one.score,
            scores=one.scores,
            sentence_scores=one.sentence_scores,
        )
        for one in evidence
    ]


def result(event: QueryAsked | EvidenceRetrieved, ending: Ending, ended: Ended) -> QueryFinished:
    """Return how a question ended, as the stages behind it read it."""
    return QueryFinished(
        query=event.query,
        tenant=event.tenant,
        text=event.text,
        outcome=ending.outcome,
        attempt=ended.attempt,
        generation=event.generation,
        reply_partition=event.reply_partition,
        asked_ms=event.asked_ms,
        finished_ms=ended.finished_ms,
        user=event.user,
        groups=event.filters.groups if isinstance(event, QueryAsked) else event.groups,
        hits=list(ending.hits),
        answer=ending.answer,
        error=ending.reason,
        message=ending.message,
        retrieve_ms=ending.retrieve_ms,
    )


def _error(event: QueryAsked | EvidenceRetrieved, letter: DeadLetter, *, attempt: int) -> Outbound:
    reply = Reply(
        query=event.query,
        tenant=event.tenant,
        type="error",
        attempt=attempt,
        seq=_NO_PLACE,
        error=letter.reason,
        message=letter.message,
    )
    return Outbound(topic=ANSWERS, key=event.query.encode(), event=reply, partition=event.reply_partition)
