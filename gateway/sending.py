"""Sends single events to Kafka and waits for its acknowledgement."""

import asyncio
from collections.abc import Sequence
from typing import Final

from backbone.kafka import Delivered, PublishFailed
from gateway.ports import Services
from schemas.codec import encode
from schemas.events import Event
from schemas.topics import Topic

SOURCE: Final = "/headrace/gateway"
ACKNOWLEDGED_S: Final = 5.0
"""Longer than Kafka takes to move a leader; who waits longer is better told."""


async def send(
    services: Services,
    topic: Topic,
    event: Event | None,
    *,
    key: bytes,
    traceparent: str | None = None,
    partition: int | None = None,
) -> "asyncio.Future[Delivered]":
    """Send an event; the future fails with `PublishFailed`. Without a `traceparent` a new trace begins.

    Raises:
        OSError: the event is large, and the object store is away.
    """
    record = await encode(event, key=key, source=SOURCE, blobs=services.blobs, traceparent=traceparent)
    headers = dict(record.headers)
    return services.sender.send(topic.name, key=record.key, value=record.value, headers=headers, partition=partition)


async def acknowledged(*sent: "asyncio.Future[Delivered]") -> None:
    """Wait until Kafka has all of these.

    Raises:
        PublishFailed: one failed, or is not acknowledged in time; Kafka may have it all the same.
    """
    for outcome in await outcomes_of(sent):
        if isinstance(outcome, PublishFailed):
            raise outcome


async def outcomes_of(
    sent: Sequence["asyncio.Future[Delivered]"], *, silence_s: float = ACKNOWLEDGED_S
) -> list[Delivered | PublishFailed]:
    """Wait for what becomes of these, in their order, as long as some of them are acknowledged again and again.

    Args:
        sent: at least one.
        silence_s: when none is acknowledged for so long, those that are left have failed; Kafka may have them all the
            same.
    """
    waiting = set(sent)
    n_before = len(sent) + 1
    while waiting and len(waiting) < n_before:
        n_before = len(waiting)
        _, waiting = await asyncio.wait(waiting, timeout=silence_s)
    for each in waiting:
        each.add_done_callback(asyncio.Future.exception)
    late = PublishFailed(f"no acknowledgement within {silence_s:g} seconds")
    return [late if each in waiting else _outcome(each) for each in sent]


def _outcome(done: "asyncio.Future[Delivered]") -> Delivered | PublishFailed:
    try:
        return done.result()
    except PublishFailed as error:
        return error
