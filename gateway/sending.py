"""Sends single events to Kafka and waits for its acknowledgement."""

import asyncio
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
    done, waiting = await asyncio.wait(sent, timeout=ACKNOWLEDGED_S)
    for each in waiting:
        each.add_done_callback(asyncio.Future.exception)
    if waiting:
        raise PublishFailed(f"no acknowledgement within {ACKNOWLEDGED_S} seconds")
    await asyncio.gather(*done)
