"""Accepts questions and searches: made, written down, and sent to Kafka."""

import time
from dataclasses import dataclass

from backbone.kafka import PublishFailed
from gateway.auth import Caller
from gateway.models import QueryRequest, SearchRequest
from gateway.ports import Services
from gateway.problems import unavailable
from gateway.replies import Subscription
from gateway.sending import acknowledged, send
from schemas.events import Filters, QueryAsked
from schemas.ids import new_query_id
from schemas.topics import QUERIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An accepted question. `started_s` is the moment of acceptance, `time.monotonic`."""

    event: QueryAsked
    subscription: Subscription
    started_s: float

    def elapsed_s(self) -> float:
        """Return the time since acceptance."""
        return time.monotonic() - self.started_s

    def left_s(self) -> float:
        """Return the time until the deadline, at least 0."""
        return max(0.0, (self.event.deadline_ms - self.event.asked_ms) / 1000 - self.elapsed_s())


async def ask(services: Services, caller: Caller, body: QueryRequest, traceparent: str) -> Asked:
    """Accept a question: its row first, then Kafka.

    Raises:
        Problem: 503, Postgres or Kafka is away; the question is rejected and will not be answered.
    """
    asked = await _prepare(services, caller, body)
    await services.questions.insert(asked.event, reply_offset=0)
    try:
        await produce(services, asked.event, traceparent)
    except PublishFailed as error:
        # The record may stand in the log all the same; whoever changes the row first decides.
        if await services.questions.reject(asked.event.query):
            raise unavailable("Kafka", error) from error
    return asked


async def search(services: Services, caller: Caller, body: SearchRequest, traceparent: str) -> Asked:
    """Send a bare search, which has no row.

    Raises:
        Problem: 503, Postgres or Kafka is away.
    """
    asked = await _prepare(services, caller, body)
    try:
        await produce(services, asked.event, traceparent)
    except PublishFailed as error:
        raise unavailable("Kafka", error) from error
    return asked


async def _prepare(services: Services, caller: Caller, body: QueryRequest | SearchRequest) -> Asked:
    if services.replies.partition is None or not services.replies.ready:
        raise unavailable("Kafka", "replies cannot be read")
    generation = await services.questions.generation()
    now_ms = time.time_ns() // 1_000_000
    is_search = isinstance(body, SearchRequest)
    event = QueryAsked(
        query=new_query_id(),
        tenant=caller.tenant,
        text=body.query,
        kind="search" if is_search else "answer",
        top_k=body.top_k,
        reply_partition=services.replies.partition,
        deadline_ms=now_ms + services.settings.query_timeout_ms,
        asked_ms=now_ms,
        generation=generation,
        filters=Filters(groups=list(caller.groups), collection=body.collection, metadata=body.metadata()),
        rankers=list(body.rankers) if isinstance(body, SearchRequest) else ["hybrid"],
        user=body.user_id if isinstance(body, QueryRequest) else None,
    )
    # Before the question is sent, so that no reply can come too early.
    subscription = services.replies.subscribe(event.query)
    return Asked(event=event, subscription=subscription, started_s=time.monotonic())


async def produce(services: Services, question: QueryAsked, traceparent: str | None = None) -> None:
    """Send a question to Kafka and wait for its acknowledgement.

    Raises:
        PublishFailed: Kafka did not acknowledge it; it may have it all the same.
        OSError: the question is large, and the object store is away.
    """
    key = question.query.encode()
    await acknowledged(await send(services, QUERIES, question, key=key, traceparent=traceparent))
