"""Accepts questions and searches: made, written down, and sent to Kafka."""

import logging
import time
from dataclasses import dataclass, replace

from backbone.kafka import PublishFailed
from gateway.admission import Who
from gateway.auth import Caller
from gateway.idempotency import ids_of
from gateway.models import QueryRequest, SearchRequest
from gateway.ports import QuestionRow, Services
from gateway.problems import unavailable
from gateway.sending import acknowledged, send
from schemas.events import Filters, QueryAsked
from schemas.ids import new_query_id
from schemas.topics import QUERIES

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An accepted question, or a search.

    Attributes:
        reply_offset: no reply to it stands before this offset of its reply partition.
        started_s: the moment of acceptance, `time.monotonic`.
        row: the question as it was read, where it was accepted earlier; None where it was accepted just now.
    """

    event: QueryAsked
    reply_offset: int
    started_s: float
    row: QuestionRow | None = None

    @classmethod
    def earlier(cls, row: QuestionRow) -> "Asked":
        """Make it of a question that was accepted earlier, by this gateway or another."""
        elapsed_s = (row.asked.deadline_ms - row.asked.asked_ms - row.left_ms) / 1000
        return cls(
            event=row.asked, reply_offset=row.reply_offset, started_s=time.monotonic() - max(0.0, elapsed_s), row=row
        )

    def elapsed_s(self) -> float:
        """Return the time since acceptance."""
        return time.monotonic() - self.started_s

    def left_s(self) -> float:
        """Return the time until the deadline, at least 0."""
        return max(0.0, (self.event.deadline_ms - self.event.asked_ms) / 1000 - self.elapsed_s())


async def ask(
    services: Services, caller: Caller, body: QueryRequest, traceparent: str, key: str | None = None
) -> Asked:
    """Accept a question: its row first, then Kafka. With an Idempotency-Key, the question that it asked before.

    Raises:
        Problem: 429, too many are open; 503, Postgres or Kafka is away, the question is rejected and will not be
            answered; 422, the key was used for another request.
    """
    _check_replies(services)
    query: str = new_query_id()
    if key is not None:
        # The same question may be asked for as a stream or as one JSON.
        asked_for = body.model_dump(mode="json", exclude_defaults=True, exclude={"stream"})
        query = (await ids_of(services, caller, key, "POST /v1/query", asked_for))(0)
        if (earlier := await _earlier(services, caller, query, traceparent)) is not None:
            return earlier
    # After the look at what the key asked before: a repeat creates nothing, so it is never refused.
    async with services.admission.admitted(caller.tenant, query, Who.of(caller.tenant, body.model_dump_json(), key)):
        return await _accept(services, caller, body, query, traceparent)


async def _accept(services: Services, caller: Caller, body: QueryRequest, query: str, traceparent: str) -> Asked:
    asked = await _prepare(services, caller, body, query)
    row = await services.questions.insert(asked.event, reply_offset=asked.reply_offset)
    if row is None:
        # The same request was faster.
        if (earlier := await _earlier(services, caller, query, traceparent)) is not None:
            return earlier
        raise unavailable("Kafka", "the same question was rejected just now")
    try:
        await produce(services, row.asked, traceparent)
    except (PublishFailed, OSError) as error:
        # The record may stand in the log all the same; whoever changes the row first decides.
        if await services.questions.reject(query):
            raise unavailable("Kafka", error) from error
    return replace(asked, event=row.asked, reply_offset=row.reply_offset)


async def _earlier(services: Services, caller: Caller, query: str, traceparent: str) -> Asked | None:
    """Return a question that was accepted earlier; None where it is to be accepted (anew)."""
    row = await services.questions.find(caller.tenant, query)
    if row is None or row.state == "rejected":
        return None
    # Whoever accepted it may have died before it was produced.
    if row.state == "pending" and row.attempt == 0 and await services.questions.requeue(query):
        try:
            await produce(services, row.asked, traceparent)
        except (PublishFailed, OSError) as error:
            _logger.warning("question %s is left to the sweeper to be produced again: %s", query, error)
    return Asked.earlier(row)


async def search(services: Services, caller: Caller, body: SearchRequest, traceparent: str) -> Asked:
    """Send a bare search, which has no row.

    Whoever sends it tells `services.searches` of its end.

    Raises:
        Problem: 429, too many are open; 503, Postgres or Kafka is away.
    """
    _check_replies(services)
    query = new_query_id()
    async with services.searches.admitted(caller.tenant, query, Who.of(caller.tenant, body.model_dump_json(), None)):
        asked = await _prepare(services, caller, body, query)
        try:
            await produce(services, asked.event, traceparent)
        except (PublishFailed, OSError) as error:
            raise unavailable("Kafka", error) from error
        return asked


def _check_replies(services: Services) -> None:
    if services.replies.partition is None or not services.replies.ready:
        raise unavailable("Kafka", "replies cannot be read")


async def _prepare(services: Services, caller: Caller, body: QueryRequest | SearchRequest, query: str) -> Asked:
    generation, partition = await services.questions.generation(), services.replies.partition
    assert partition is not None
    now_ms = time.time_ns() // 1_000_000
    is_search = isinstance(body, SearchRequest)
    event = QueryAsked(
        query=query,
        tenant=caller.tenant,
        text=body.query,
        kind="search" if is_search else "answer",
        top_k=body.top_k,
        reply_partition=partition,
        deadline_ms=now_ms + services.settings.query_timeout_ms,
        asked_ms=now_ms,
        generation=generation,
        filters=Filters(
            groups=list(caller.groups), collection=body.collection, metadata=body.metadata(), where=body.where()
        ),
        rankers=list(body.rankers) if isinstance(body, SearchRequest) else ["hybrid"],
        user=body.user_id if isinstance(body, QueryRequest) else None,
    )
    # Before the question is sent, so that no reply can stand before this place.
    return Asked(event=event, reply_offset=services.replies.end, started_s=time.monotonic())


async def produce(services: Services, question: QueryAsked, traceparent: str | None = None) -> None:
    """Send a question to Kafka and wait for its acknowledgement.

    Raises:
        PublishFailed: Kafka did not acknowledge it; it may have it all the same.
        OSError: the question is large, and the object store is away.
    """
    key = question.query.encode()
    await acknowledged(await send(services, QUERIES, question, key=key, traceparent=traceparent))
