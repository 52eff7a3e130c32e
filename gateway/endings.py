"""Publishes how a question ended; done by whoever won the compare-and-set that ended it, and again by the sweeper."""

import logging

import msgspec

from backbone.kafka import PublishFailed
from gateway.ports import QuestionRow, Services
from gateway.problems import Problem
from gateway.sending import acknowledged, send
from schemas.codec import new_traceparent
from schemas.events import Answer, Hit, QueryFinished, Reply
from schemas.topics import ANSWERS, RESULTS

_logger = logging.getLogger(__name__)


async def expire(services: Services, query: str) -> QuestionRow | None:
    """End a question that ran out of time, and publish that; None where it had ended before.

    Raises:
        Problem: 503, Postgres is away.
    """
    row = await services.questions.expire(query)
    if row is not None:
        await conclude(services, row)
    return row


async def conclude(services: Services, row: QuestionRow) -> None:
    """Publish the end of a question and note that; where Kafka or Postgres is away, the sweeper does so later."""
    try:
        await publish(services, row)
        await services.questions.set_published(row.id)
    except (PublishFailed, Problem, OSError) as error:
        _logger.warning("the end of question %s is not published yet: %s", row.id, error)


async def publish(services: Services, row: QuestionRow) -> None:
    """Send the last replies of a finished question and its result; returns when Kafka has acknowledged all of them.

    Always the same replies in the same places, so that a reader drops a repeat.

    Raises:
        PublishFailed: Kafka did not acknowledge all.
        OSError: the answer is large, and the object store is away.
    """
    key, trace = row.id.encode(), new_traceparent()
    replies = [
        await send(services, ANSWERS, reply, key=key, traceparent=trace, partition=row.reply_partition)
        for reply in last_replies(row)
    ]
    await acknowledged(*replies, await send(services, RESULTS, result(row), key=key, traceparent=trace))


def last_replies(row: QuestionRow) -> list[Reply]:
    """Return the replies that end a finished question: answer and done, or cancelled, or error."""
    answer, seq = _answer(row), row.terminal_seq or 0
    elapsed_ms = float(max(0, (row.finished_ms or 0) - row.asked.asked_ms))
    match row.outcome:
        case "done":
            last = _reply(row, "done", seq, elapsed_ms=elapsed_ms)
            return [_reply(row, "answer", seq - 1, answer=answer), last]
        case "cancelled":
            return [_reply(row, "cancelled", seq, answer=answer, elapsed_ms=elapsed_ms)]
        case _:
            error = row.error or {}
            return [_reply(row, "error", seq, error=error.get("reason"), message=error.get("message"))]


def result(row: QuestionRow) -> QueryFinished:
    """Return how a finished question ended, as the stages behind it read it."""
    asked, error = row.asked, row.error or {}
    return QueryFinished(
        query=asked.query,
        tenant=asked.tenant,
        text=asked.text,
        outcome=row.outcome or "error",
        attempt=row.attempt,
        generation=asked.generation,
        reply_partition=asked.reply_partition,
        asked_ms=asked.asked_ms,
        finished_ms=row.finished_ms or asked.asked_ms,
        user=asked.user,
        groups=asked.filters.groups,
        hits=msgspec.convert(row.hits or [], list[Hit]),
        answer=_answer(row),
        error=error.get("reason"),
        message=error.get("message"),
        retrieve_ms=row.retrieve_ms,
    )


def _answer(row: QuestionRow) -> Answer | None:
    return None if row.answer is None else msgspec.convert(row.answer, Answer)


def _reply(
    row: QuestionRow,
    type: str,
    seq: int,
    *,
    answer: Answer | None = None,
    error: str | None = None,
    message: str | None = None,
    elapsed_ms: float | None = None,
) -> Reply:
    return Reply(
        query=row.id,
        tenant=row.asked.tenant,
        type=type,
        attempt=row.attempt,
        seq=seq,
        answer=answer,
        error=error,
        message=message,
        elapsed_ms=elapsed_ms,
    )
