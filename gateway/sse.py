"""Event streams over HTTP (server-sent events)."""

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from sse_starlette import EventSourceResponse, ServerSentEvent

from backbone.telemetry import OPEN_STREAMS
from gateway.problems import RETRY_AFTER_S, Problem

HEARTBEAT_S: Final = 15
SEND_TIMEOUT_S: Final = 30.0
"""How long a caller that does not read may hold a stream open."""
RETRY_MS: Final = 1_000
"""When a browser's EventSource comes again after a stream that broke."""


class StreamEvent(Protocol):
    """What a stream sends."""

    @property
    def name(self) -> str:
        """Word for machines."""
        ...

    @property
    def data(self) -> Mapping[str, Any]:
        """JSON object."""
        ...

    @property
    def place(self) -> str | None:
        """What to go on from; None: as before."""
        ...


@dataclass
class OpenStreams:
    """The streams of this gateway, of which there are at most so many."""

    max_streams: int
    n_open: int = field(default=0, init=False)

    def take(self) -> None:
        """Count one more.

        Raises:
            Problem: 503, there are as many as there may be.
        """
        if self.n_open >= self.max_streams:
            detail = f"this gateway holds {self.n_open} event streams, the most it may (HEADRACE_STREAMS_MAX)"
            headers = {"Retry-After": str(RETRY_AFTER_S)}
            raise Problem(503, "too_many_streams", f"{detail}; try again in {RETRY_AFTER_S} seconds", headers=headers)
        self.n_open += 1
        OPEN_STREAMS.inc()

    def give_back(self) -> None:
        """Count one less."""
        self.n_open -= 1
        OPEN_STREAMS.dec()


def event_stream(streams: OpenStreams, events: AsyncIterator[StreamEvent]) -> EventSourceResponse:
    """Send events as they come. The caller has taken the stream; its end gives it back."""
    return EventSourceResponse(
        _frames(streams, events),
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        ping=HEARTBEAT_S,
        send_timeout=SEND_TIMEOUT_S,
    )


async def _frames(streams: OpenStreams, events: AsyncIterator[StreamEvent]) -> AsyncIterator[ServerSentEvent]:
    retry: int | None = RETRY_MS
    try:
        async for event in events:
            data = json.dumps(event.data, ensure_ascii=False)
            yield ServerSentEvent(data=data, event=event.name, id=event.place, retry=retry)
            retry = None
    finally:
        streams.give_back()
