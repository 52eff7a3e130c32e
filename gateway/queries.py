"""Routes of questions."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from fastapi import APIRouter, Path, Request
from sse_starlette import EventSourceResponse, ServerSentEvent

from backbone.telemetry import OPEN_STREAMS
from gateway.answering import AnswerEvent, answer_events
from gateway.asking import Asked, ask
from gateway.auth import Authenticated
from gateway.documents import ServicesOf
from gateway.models import AnswerShown, QueryError, QueryRequest, QueryResponse, StoredQuery
from gateway.ports import QuestionRow, Services
from gateway.problems import Problem, invalid
from gateway.trace import Traceparent
from schemas.events import Answer

router = APIRouter(prefix="/v1", tags=["questions"])
HEARTBEAT_S: Final = 15
SEND_TIMEOUT_S: Final = 30.0
"""How long a caller that does not read may hold a stream open."""

_SSE_EXAMPLE: Final = (
    'event: accepted\ndata: {"id": "0199f0a4-7c1e-7cc0-8a55-0d8f9c3c7b11", "url": "/v1/queries/0199f0a4-..."}\n\n'
    'id: 2:1041\nevent: sources\ndata: {"sources": [{"document_id": "manual/gates.md", "...": "..."}]}\n\n'
    'id: 2:1042\nevent: token\ndata: {"text": "The sluice gate opens at 4.2 metres. [1]"}\n\n'
    'id: 2:1043\nevent: answer\ndata: {"id": "0199f0a4-...", "answer": "The sluice gate ...", "citations": []}\n\n'
    'id: 2:1044\nevent: done\ndata: {"latency_ms": 24.7}\n\n'
)


@router.post(
    "/query",
    response_model=QueryResponse,
    responses={200: {"description": "The answer", "content": {"text/event-stream": {"example": _SSE_EXAMPLE}}}},
)
async def query(
    request: Request, body: QueryRequest, caller: Authenticated, services: ServicesOf, trace: Traceparent
) -> Any:
    """Ask a question. The answer cites the documents that it was taken from, or says that they do not hold it.

    With `Accept: text/event-stream` or `"stream": true`, the events accepted, sources, token (any number), answer, then
    done or error; reset voids the tokens so far. Else one JSON.
    """
    asked = await ask(services, caller, body, trace)
    if body.stream or "text/event-stream" in request.headers.get("accept", ""):
        return EventSourceResponse(
            _stream(services, asked),
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
            ping=HEARTBEAT_S,
            send_timeout=SEND_TIMEOUT_S,
        )
    return await _whole(services, asked)


async def _stream(services: Services, asked: Asked) -> AsyncIterator[ServerSentEvent]:
    with OPEN_STREAMS.track_inprogress():
        async for event in answer_events(services, asked):
            yield ServerSentEvent(data=json.dumps(event.data, ensure_ascii=False), event=event.name, id=event.place)


async def _whole(services: Services, asked: Asked) -> QueryResponse:
    answer: AnswerEvent | None = None
    async for event in answer_events(services, asked):
        if event.name == "error":
            members = dict(event.data)
            status, kind = int(members["status"]), str(members["type"]).rpartition(":")[2]
            raise Problem(status, kind, str(members["detail"]), id=asked.event.query)
        if event.name == "answer":
            answer = event
        if event.name == "done" and answer is not None:
            return QueryResponse.model_validate(answer.data | event.data)
    raise Problem(500, "no_answer", "the question ended without an answer", id=asked.event.query)


@router.get("/queries/{id}")
async def stored_query(
    id: Annotated[str, Path(description="id of a question")], caller: Authenticated, services: ServicesOf
) -> StoredQuery:
    """Return a question and its answer as they are kept, also when the stream was lost."""
    try:
        query_id = str(UUID(id))
    except ValueError as error:
        raise invalid("path parameter id", "expected the UUID of a question", id) from error
    row = await services.questions.find(caller.tenant, query_id)
    if row is None:
        raise Problem(404, "no_question", f"there is no question {query_id!r}")
    return _stored(row)


def _stored(row: QuestionRow) -> StoredQuery:
    answer = None if row.answer is None else AnswerShown.of(row.id, msgspec.convert(row.answer, Answer))
    finished_ms = row.finished_ms
    return StoredQuery(
        id=row.id,
        query=row.query,
        user_id=row.user,
        state=row.state,
        generation=row.generation,
        attempt=row.attempt,
        answer=answer.answer if answer else None,
        citations=answer.citations if answer else [],
        usage=answer.usage if answer else None,
        abstained=answer.abstained if answer else None,
        error=QueryError.model_validate(row.error) if row.error else None,
        created_at=_time(row.created_ms),
        finished_at=None if finished_ms is None else _time(finished_ms),
        latency_ms=None if finished_ms is None else float(finished_ms - row.created_ms),
    )


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
