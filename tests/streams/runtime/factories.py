"""Events, topics and stages for tests of the runtime."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec

from schemas.events import QueryAsked, Reply
from schemas.topics import ANSWERS, QUERIES, Topic
from streams.runtime.record import Flush, Inbound, Origin, Outbound
from streams.runtime.runner import Source
from streams.runtime.stage import Stage

ORIGIN = Origin(topic=QUERIES.name, topic_id="id-of-questions", partition=3, offset=42)


def fresh(topic: Topic, partitions: int = 1) -> Topic:
    """Return the topic under a name that nobody used before."""
    return replace(topic, name=f"{topic.name}-{uuid.uuid4().hex[:12]}", partitions=partitions)


def question(text: str = "why?") -> QueryAsked:
    return QueryAsked(
        query="q1",
        tenant="acme",
        text=text,
        kind="answer",
        top_k=3,
        reply_partition=0,
        deadline_ms=0,
        asked_ms=0,
        generation="g1",
    )


def token(text: str, seq: int = 0) -> Reply:
    return Reply(query="q1", tenant="acme", type="token", attempt=1, seq=seq, token=text)


def answer(text: str, seq: int = 0, topic: Topic = ANSWERS) -> Outbound:
    return Outbound(topic=topic, key=b"q1", event=token(text, seq), partition=0)


def source(value: bytes | None = None, headers: Any = (), key: bytes | None = b"q1") -> Source:
    return Source(
        key=key,
        value=msgspec.json.encode(question()) if value is None else value,
        headers=headers,
        origin=ORIGIN,
        timestamp_ms=1_700_000_000_000,
    )


async def echo(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
    assert record.event is not None
    yield answer(record.event.text)


def stage(**changes: Any) -> Stage:
    values: dict[str, Any] = {
        "name": "retrieve",
        "group": "rag.retrieve",
        "topic": QUERIES,
        "handler": echo,
        "slots": 2,
        "deadline_s": 5.0,
    }
    return Stage(**(values | changes))
