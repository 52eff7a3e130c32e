"""The route that cancels a question."""

import asyncio
from typing import Final

from fastapi import APIRouter

from gateway.auth import Authenticated
from gateway.documents import ServicesOf
from gateway.endings import conclude
from gateway.log.follower import OutOfLog
from gateway.models import StoredQuery
from gateway.ports import QuestionRow, Services
from gateway.queries import QueryId, no_question, stored
from gateway.sending import send
from gateway.trace import Traceparent
from schemas.events import Answer, ControlSent
from schemas.topics import CONTROL

router = APIRouter(prefix="/v1", tags=["questions"])

_WORKER_S: Final = 1.0
"""How long the worker may take to end the question; then the gateway does."""
_LOOK_S: Final = 0.03
_LOG_S: Final = 2.0
"""How long the log may take to give the text so far; then the question ends without."""
_OPEN: Final = ("pending", "claimed")


@router.delete("/queries/{id}")
async def cancel_query(id: QueryId, caller: Authenticated, services: ServicesOf, trace: Traceparent) -> StoredQuery:
    """Cancel a question. `outcome` says how it has ended: cancelled, or as it had ended before. The text so far is
    kept."""
    row = await services.questions.find(caller.tenant, id)
    if row is None:
        raise no_question(id)
    return stored(await _cancel(services, row, trace))


async def _cancel(services: Services, row: QuestionRow, trace: str) -> QuestionRow:
    """Return the question as it has ended."""
    if row.state == "pending" and row.attempt == 0:
        row = await _finish(services, row, "", 1)
    if row.state in _OPEN and await services.questions.request_cancel(row.id):
        await _nudge(services, row, trace)
        row = await _awaited(services, row)
    while row.state in _OPEN:
        row = await _finish(services, row, *await _so_far(services, row))
    return row


async def _finish(services: Services, row: QuestionRow, text: str, seq: int) -> QuestionRow:
    """End the question, unless a worker has ended it, or claimed it, meanwhile; return it as it is then."""
    ended = await services.questions.finish_cancelled(
        row.id, attempt=row.attempt, answer=Answer(text=text), terminal_seq=seq
    )
    if ended is None:
        return await _again(services, row)
    await conclude(services, ended)
    return ended


async def _nudge(services: Services, row: QuestionRow, trace: str) -> None:
    """Have the worker look at the row now; without it, it looks when it renews its lease."""
    control = ControlSent(kind="cancel", tenant=row.asked.tenant, query=row.id)
    sent = await send(services, CONTROL, control, key=row.id.encode(), traceparent=trace)
    sent.add_done_callback(asyncio.Future.exception)


async def _awaited(services: Services, row: QuestionRow) -> QuestionRow:
    """Wait for the worker to end the question."""
    loop = asyncio.get_running_loop()
    until_s = loop.time() + _WORKER_S
    while row.state in _OPEN and loop.time() < until_s:
        await asyncio.sleep(_LOOK_S)
        row = await _again(services, row)
    return row


async def _again(services: Services, row: QuestionRow) -> QuestionRow:
    return await services.questions.find(row.asked.tenant, row.id) or row


async def _so_far(services: Services, row: QuestionRow) -> tuple[str, int]:
    """Return the text of the current attempt as the log holds it, and the place after its last token."""
    with services.replies.follow(
        row.id, tenant=row.asked.tenant, partition=row.reply_partition, offset=row.reply_offset
    ) as replies:
        try:
            async with asyncio.timeout(_LOG_S):
                heard = await replies.until_now()
        except (TimeoutError, OutOfLog):
            heard = []
    tokens: list[str] = []
    for reply in (each.reply for each in heard):
        if (reply.type, reply.attempt, reply.seq) == ("token", row.attempt, len(tokens)):
            tokens.append(reply.token or "")
    return "".join(tokens), len(tokens)
