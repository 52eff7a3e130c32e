"""Event streams over HTTP (server-sent events).

A response of our own, because a stream must be small: two tasks, and one clock for all.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from backbone.telemetry import OPEN_STREAMS
from gateway.problems import RETRY_AFTER_S, Problem

HEARTBEAT_S: Final = 15.0
"""A stream that is silent for so long sends a comment, so that nobody on the way takes it for dead."""
SEND_TIMEOUT_S: Final = 30.0
"""A caller that reads nothing for so long is cut off; it may come again and go on."""
RETRY_MS: Final = 1_000
"""When a browser's EventSource comes again after a stream that broke."""

_TICK_S: Final = 1.0
_BEAT: Final = b": heartbeat\n\n"
_FAREWELL: Final = b": this gateway stops; go on at another one with Last-Event-ID\n\n"


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


def frame(event: StreamEvent) -> bytes:
    """Write an event as it travels."""
    place = b"" if event.place is None else b"id: %s\n" % event.place.encode()
    return b"%sevent: %s\ndata: %s\n\n" % (place, event.name.encode(), msgspec.json.encode(event.data))


@dataclass
class OpenStreams:
    """The streams of this gateway, of which there are at most so many.

    Attributes:
        max_streams: more are refused.
        n_open: taken and not given back.
        heartbeat_s: see HEARTBEAT_S.
        send_timeout_s: see SEND_TIMEOUT_S.
        tick_s: how often both are looked at.
    """

    max_streams: int
    heartbeat_s: float = HEARTBEAT_S
    send_timeout_s: float = SEND_TIMEOUT_S
    tick_s: float = _TICK_S
    n_open: int = field(default=0, init=False)
    _sending: "set[EventStream]" = field(default_factory=set, init=False)
    _clock: "asyncio.Task[None] | None" = field(default=None, init=False)
    _closing: bool = field(default=False, init=False)

    def take(self) -> None:
        """Count one more.

        Raises:
            Problem: 503, there are as many as there may be, or the gateway stops.
        """
        if self._closing or self.n_open >= self.max_streams:
            why = f"this gateway holds {self.n_open} event streams, the most that it may (HEADRACE_STREAMS_MAX)"
            detail = f"{'this gateway stops' if self._closing else why}; try again in {RETRY_AFTER_S} seconds"
            raise Problem(503, "too_many_streams", detail, headers={"Retry-After": str(RETRY_AFTER_S)})
        self.n_open += 1
        OPEN_STREAMS.inc()

    def give_back(self) -> None:
        """Count one less."""
        self.n_open -= 1
        OPEN_STREAMS.dec()

    def close(self) -> None:
        """End all streams without an end of their events, so that their readers go on elsewhere; refuse new ones."""
        self._closing = True
        for stream in list(self._sending):
            stream.end()

    def watch(self, stream: "EventStream") -> None:
        """Keep a stream alive, and cut it where it is not read, until `leave`."""
        self._sending.add(stream)
        if self._clock is None:
            self._clock = asyncio.create_task(self._tick(), name="heartbeats")

    def leave(self, stream: "EventStream") -> None:
        """Watch a stream no more."""
        self._sending.discard(stream)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._sending:
                await asyncio.sleep(self.tick_s)
                now_s = loop.time()
                for stream in list(self._sending):
                    silent_s = now_s - stream.last_s
                    if stream.blocked and silent_s >= self.send_timeout_s:
                        stream.cut()
                    elif not stream.blocked and silent_s >= self.heartbeat_s:
                        stream.beat()
        finally:
            self._clock = None


class EventStream(Response):
    """Sends events as they come. Who makes it has taken a stream, which is given back at its end.

    Attributes:
        last_s: when something was last sent or begun to be sent, on the clock of the event loop.
        blocked: what was begun to be sent is not taken yet, because the caller does not read.
    """

    media_type = "text/event-stream"

    def __init__(self, streams: OpenStreams, events: AsyncGenerator[StreamEvent, None]) -> None:
        """Args:
        streams: all of this gateway.
        events: closed at the end.
        """
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self.last_s = 0.0
        self.blocked = False
        self._streams = streams
        self._events = events
        self._send: Send | None = None
        self._task: asyncio.Task[Any] | None = None
        self._beating: asyncio.Task[None] | None = None
        self._ending = False
        self._gone = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the events end, the caller goes away, or the stream is ended."""
        self._send, self._task = send, asyncio.current_task()
        listening = asyncio.create_task(self._listen(receive), name="listening")
        self._streams.watch(self)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            # Within the first event: some readers take a block of its own for an event.
            hint = b"retry: %d\n" % RETRY_MS
            async for event in self._events:
                await self._put(hint + frame(event))
                hint = b""
        except asyncio.CancelledError:
            if not self._ending or self._task is None:
                raise
            self._task.uncancel()
        finally:
            self._task = None
            self._streams.leave(self)
            self._streams.give_back()
            listening.cancel()
            if self._beating is not None:
                self._beating.cancel()
            await self._events.aclose()
        if not self._gone:
            farewell = _FAREWELL if self._ending else b""
            await send({"type": "http.response.body", "body": farewell, "more_body": False})

    def end(self) -> None:
        """End the stream in good order, without an event."""
        if self._task is not None and not self._ending:
            self._ending = True
            self._task.cancel()

    def cut(self) -> None:
        """Break the stream off."""
        self._gone = True
        self.end()

    def beat(self) -> None:
        """Send a comment."""
        if self._task is not None:
            self._beating = asyncio.create_task(self._put(_BEAT), name="heartbeat")

    async def _put(self, body: bytes) -> None:
        assert self._send is not None
        self.blocked, self.last_s = True, asyncio.get_running_loop().time()
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        self.blocked = False

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.cut()
