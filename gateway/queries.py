"""Routes of questions."""

import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Request, Response

from gateway.answering import AnswerEvent, answer_events
from gateway.asking import Asked, ask
from gateway.auth import Authenticated
from gateway.documents import ServicesOf
from gateway.idempotency import IdempotencyKey
from gateway.models import (
    AnswerShown,
    FeedbackShown,
    QueryError,
    QueryRequest,
    QueryResponse,
    ScoresShown,
    StoredQuery,
)
from gateway.ports import QuestionRow, Services
from gateway.problems import Problem, invalid, unavailable
from gateway.sse import EventStream
from gateway.trace import Traceparent
from schemas.events import Answer, FeedbackGiven, Scores

router = APIRouter(prefix="/v1", tags=["questions"])
_PLACE: Final = r"\d{1,9}:\d{1,18}"

_SSE_EXAMPLE: Final = (
    'event: accepted\ndata: {"id": "0199f0a4-7c1e-7cc0-8a55-0d8f9c3c7b11", "url": "/v1/queries/0199f0a4-...", '
    '"events": "/v1/queries/0199f0a4-.../events"}\n\n'
    'id: 2:1041\nevent: sources\ndata: {"sources": [{"document_id": "manual/gates.md", "...": "..."}]}\n\n'
    'id: 2:1042\nevent: token\ndata: {"text": "The sluice gate opens at 4.2 metres. [1]"}\n\n'
    'id: 2:1043\nevent: answer\ndata: {"id": "0199f0a4-...", "answer": "The sluice gate ...", "citations": []}\n\n'
    'id: 2:1044\nevent: done\ndata: {"latency_ms": 24.7}\n\n'
)


async def question_in_path(id: Annotated[str, Path(description="id of a question")]) -> str:
    """Return the id of the path.

    Raises:
        Problem: 422, no UUID.
    """
    try:
        return str(UUID(id))
    except ValueError as error:
        raise invalid("path parameter id", "expected the UUID of a question", id) from error


QueryId = Annotated[str, Depends(question_in_path)]


@router.post(
    "/query",
    response_model=QueryResponse,
    responses={200: {"description": "The answer", "content": {"text/event-stream": {"example": _SSE_EXAMPLE}}}},
)
async def query(
    request: Request,
    body: QueryRequest,
    caller: Authenticated,
    services: ServicesOf,
    trace: Traceparent,
    idempotency_key: IdempotencyKey,
) -> Any:
    """Ask a question. The answer cites the documents that it was taken from, or says that they do not hold it.

    With `Accept: text/event-stream` or `"stream": true`, the events accepted, sources, token (any number), answer,
    score (if it comes within a second), then done, error or cancelled; reset voids the tokens so far. A stream that
    breaks is resumed at the `events` that `accepted` names. Else one JSON.
    """
    if not (body.stream or "text/event-stream" in request.headers.get("accept", "")):
        return await _whole(services, await ask(services, caller, body, trace, idempotency_key))
    services.streams.take()
    try:
        asked = await ask(services, caller, body, trace, idempotency_key)
    except BaseException:
        services.streams.give_back()
        raise
    return EventStream(services.streams, answer_events(services, asked, score_wait_s=_score_wait_s(services)))


def _score_wait_s(services: Services) -> float:
    return services.settings.score_wait_ms / 1000


async def _whole(services: Services, asked: Asked) -> QueryResponse:
    answer: AnswerEvent | None = None
    async with aclosing(answer_events(services, asked)) as events:
        async for event in events:
            match event.name:
                case "error":
                    members = dict(event.data)
                    status, kind = int(members["status"]), str(members["type"]).rpartition(":")[2]
                    raise Problem(status, kind, str(members["detail"]), id=asked.event.query)
                case "cancelled":
                    detail = "the question was cancelled before it was answered; 'text' holds what was written so far"
                    raise Problem(409, "cancelled", detail, **event.data)
                case "answer":
                    answer = event
                case "done" if answer is not None:
                    return QueryResponse.model_validate(answer.data | event.data)
    raise unavailable("Postgres", "it does not say how the question has ended", id=asked.event.query)


@router.get(
    "/queries/{id}/events",
    status_code=200,
    response_class=EventStream,
    responses={
        200: {"description": "The events", "content": {"text/event-stream": {"example": _SSE_EXAMPLE}}},
        204: {"description": "`Last-Event-ID` names the end of the stream"},
    },
)
async def query_events(
    id: QueryId,
    caller: Authenticated,
    services: ServicesOf,
    last_event_id: Annotated[
        str | None, Header(description="`id` of the last event that was read; the stream goes on after it")
    ] = None,
) -> Response:
    """Follow a question from its beginning, or go on where a stream broke off, on any gateway.

    The events are those of `POST /v1/query`. `reset` voids what was read before; it comes where another attempt begins,
    and where `Last-Event-ID` names no event of this question that is still kept. Of a question that ended so long ago
    that its events are gone, the stored answer is sent, then the end. A stream that closes without done, error or
    cancelled is to be resumed.
    """
    last_seen = _place(last_event_id)
    row = await services.questions.find(caller.tenant, id)
    if row is None:
        raise no_question(id)
    if row.state == "rejected":
        raise Problem(409, "rejected", f"the question {id!r} was refused when it was asked; ask again")
    events = answer_events(services, Asked.earlier(row), last_seen=last_seen, score_wait_s=_score_wait_s(services))
    if last_seen is not None and row.state == "finished":
        # A reader that comes again after the end must be told so, else its EventSource comes for ever.
        first = await anext(events, None)
        if first is None:
            return Response(status_code=204)
        events = _chain(first, events)
    services.streams.take()
    return EventStream(services.streams, events)


async def _chain(first: AnswerEvent, others: AsyncGenerator[AnswerEvent, None]) -> AsyncGenerator[AnswerEvent, None]:
    yield first
    async for event in others:
        yield event


def _place(last_event_id: str | None) -> str | None:
    if last_event_id is None or re.fullmatch(_PLACE, last_event_id):
        return last_event_id
    expected = "expected the id of an event of this stream, as '2:1041', or no such header"
    raise invalid("header Last-Event-ID", expected, last_event_id)


@router.get("/queries/{id}")
async def stored_query(id: QueryId, caller: Authenticated, services: ServicesOf) -> StoredQuery:
    """Return a question and its answer as they are kept, also when the stream was lost."""
    row = await services.questions.find(caller.tenant, id)
    if row is None:
        raise no_question(id)
    return stored(row)


def no_question(query: str) -> Problem:
    """Make the problem of a question that does not exist, or is another tenant's."""
    return Problem(404, "no_question", f"there is no question {query!r}")


def stored(row: QuestionRow) -> StoredQuery:
    """Show a question as it is kept."""
    answer = None if row.answer is None else AnswerShown.of(row.id, msgspec.convert(row.answer, Answer))
    finished_ms = row.finished_ms
    return StoredQuery(
        id=row.id,
        query=row.query,
        user_id=row.user,
        state=row.state,
        outcome=row.outcome,
        generation=row.generation,
        attempt=row.attempt,
        answer=answer.answer if answer else None,
        citations=answer.citations if answer else [],
        usage=answer.usage if answer else None,
        abstained=answer.abstained if answer else None,
        error=QueryError.model_validate(row.error) if row.error else None,
        scores=ScoresShown.of(msgspec.convert(row.scores, Scores)) if row.scores else None,
        feedback=FeedbackShown.of(msgspec.convert(row.feedback, FeedbackGiven)) if row.feedback else None,
        created_at=_time(row.created_ms),
        finished_at=None if finished_ms is None else _time(finished_ms),
        latency_ms=None if finished_ms is None else float(finished_ms - row.created_ms),
    )


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
