"""Records as the runtime hands them to a handler that runs with `decode=False`, and what comes out of it."""

from collections.abc import AsyncIterator, Mapping

from schemas.codec import reissue_of
from schemas.events import DocumentSubmitted, LifecycleChanged
from schemas.topics import LIFECYCLE
from streams.runtime.record import Flush, Inbound, Origin, Outbound


def submitted(
    raw: bytes | None,
    *,
    key: bytes | None = b"acme/guide",
    offset: int = 0,
    partition: int = 0,
    headers: Mapping[str, bytes] | None = None,
) -> Inbound[DocumentSubmitted]:
    return Inbound(
        headers=headers or {},
        reissue=reissue_of(headers or {}),
        key=key,
        event=None,
        raw=raw,
        origin=Origin(topic="rag.ingest.v1", topic_id="t1", partition=partition, offset=offset),
        timestamp_ms=500,
    )


async def drained(outs: AsyncIterator[Outbound | Flush]) -> list[Outbound | Flush]:
    return [out async for out in outs]


def said(outs: list[Outbound | Flush]) -> list[tuple[str, int, str | None]]:
    """Return (status, version, reason) of the lifecycle events."""
    events = [out.event for out in outs if isinstance(out, Outbound) and out.topic == LIFECYCLE]
    return [(e.status, e.version, e.reason) for e in events if isinstance(e, LifecycleChanged)]


def published(outs: list[Outbound | Flush]) -> list[Outbound]:
    """Return what goes elsewhere than to lifecycle."""
    return [out for out in outs if isinstance(out, Outbound) and out.topic != LIFECYCLE]
