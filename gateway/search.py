"""The route of bare searches, which travel the same topics as questions."""

import asyncio

from fastapi import APIRouter

from gateway.asking import Asked
from gateway.asking import search as send_search
from gateway.auth import Authenticated
from gateway.documents import ServicesOf
from gateway.models import Passage, SearchRequest, SearchResponse
from gateway.ports import Services
from gateway.problems import Problem
from gateway.questions import problem_of
from gateway.trace import Traceparent

router = APIRouter(prefix="/v1", tags=["questions"])


@router.post("/search")
async def search(
    body: SearchRequest, caller: Authenticated, services: ServicesOf, trace: Traceparent
) -> SearchResponse:
    """Find passages. `score` orders them; `scores` holds what each ranker gave."""
    asked = await send_search(services, caller, body, trace)
    try:
        return await _hits(services, asked)
    finally:
        services.searches.ended(asked.event.query)


async def _hits(services: Services, asked: Asked) -> SearchResponse:
    event = asked.event
    until_s = asyncio.get_running_loop().time() + asked.left_s()
    with services.replies.follow(
        event.query, tenant=event.tenant, partition=event.reply_partition, offset=asked.reply_offset
    ) as replies:
        while True:
            try:
                reply = (await replies.next(until_s)).reply
            except TimeoutError as error:
                detail = "no worker answered the search in time; look at headrace status, or try again"
                raise Problem(504, "deadline_exceeded", detail) from error
            if reply.type == "error":
                raise problem_of(reply.error or "failed", reply.message or "the search failed", event.query)
            if reply.type == "hits":
                hits = [Passage.of(evidence) for evidence in reply.evidence or ()]
                latency_ms = round(asked.elapsed_s() * 1000, 3)
                return SearchResponse(hits=hits, latency_ms=latency_ms, without=reply.without)
