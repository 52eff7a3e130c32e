"""An OpenAI-compatible server on this machine that fails as it is told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

FOREVER: Final = 3600.0


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How one request is answered.

    Attributes:
        pieces: of the text, one chunk each.
        status: other than 200: this error with `message` instead of a stream.
        hang_up: close the connection without a byte.
        first_s: pause before the first byte.
        between_s: pause before each piece.
        stall_after: so many pieces are sent, then nothing more.
        cut_after: so many pieces are sent, then the connection is reset.
        then: raw bytes that are sent after the pieces instead of an end.
        finish: reason of the end; None: there is none.
        usage: prompt and answer tokens; None: not told, whatever was asked.
    """

    pieces: Sequence[str] = ("The gate is opened ", "by a lever. ", "[1]")
    status: int = 200
    message: str = "no"
    hang_up: bool = False
    first_s: float = 0.0
    between_s: float = 0.0
    stall_after: int | None = None
    cut_after: int | None = None
    then: bytes | None = None
    finish: str | None = "stop"
    usage: tuple[int, int] | None = (40, 7)


WELL: Final = Behaviour()
FAULTS: Final = {
    "hangs up": replace(WELL, hang_up=True),
    "timeout before the first token": replace(WELL, first_s=FOREVER),
    "stall amid the stream": replace(WELL, stall_after=2),
    "429": replace(WELL, status=429),
    "500": replace(WELL, status=500),
    "400": replace(WELL, status=400, message="the prompt is too long"),
    "401": replace(WELL, status=401),
    "404": replace(WELL, status=404),
    "cut before the first token": replace(WELL, cut_after=0),
    "cut amid the stream": replace(WELL, cut_after=2),
    "ends without an end": replace(WELL, finish=None),
    "error sent on the stream": replace(WELL, pieces=(), then=b'data: {"error": {"message": "out of memory"}}\n\n'),
    "garbage: no JSON": replace(WELL, pieces=(), then=b"data: {oops\n\n"),
    "garbage: not a chunk": replace(WELL, pieces=(), then=b'data: {"choices": [{"text": "legacy"}]}\n\n'),
    "garbage: a list": replace(WELL, pieces=(), then=b"data: [1, 2]\n\n"),
    "garbage: not UTF-8": replace(WELL, pieces=(), then=b"data: \xff\xfe\n\n"),
    "garbage: a page of HTML": replace(WELL, pieces=(), then=b"<html><body>Welcome</body></html>\n"),
    "garbage: NUL": replace(WELL, pieces=("The gate\0is open.",)),
    "garbage: a lone surrogate": replace(WELL, pieces=("The gate \ud800 is open.",)),
    "empty answer": replace(WELL, pieces=()),
    "stopped by the filter": replace(WELL, pieces=(), finish="content_filter"),
}
"""Each of these fails a link."""

ODDITIES: Final = {
    "slow tokens": replace(WELL, between_s=0.1),
    "invented marks": replace(WELL, pieces=("The gate is opened by a lever. [", "1", "]", "[7", "2] Always. [9]")),
    "usage absent": replace(WELL, usage=None),
}
"""Each of these is answered all the same."""


@dataclass(kw_only=True)
class LlmServer:
    """Serves `/v1/chat/completions`; see `serving`.

    Attributes:
        url: base address for a client.
        behave: chooses the behaviour by the request's body.
        requests: bodies received, in order; `keys` are the Authorization headers that came with them.
        n_open: answers being written.
        arrived: set by the first request.
        hung_up: set when a client went away amid an answer.
    """

    url: str = ""
    behave: Callable[[dict[str, Any]], Behaviour] = lambda _: WELL
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    n_open: int = 0
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, which takes one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError:
            # a client that died before it asked
            writer.close()
            return
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.splitlines())
        }
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        self.requests.append(body)
        self.keys.append(headers["authorization"])
        self.arrived.set()
        self.n_open += 1
        try:
            await self._reply(self.behave(body), body, reader, writer)
        except (_HungUp, ConnectionError):
            self.hung_up.set()
        finally:
            self.n_open -= 1
            writer.close()

    async def _reply(
        self, how: Behaviour, body: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await _pause(reader, how.first_s)
        if how.hang_up:
            return
        if how.status != 200:
            error = json.dumps({"error": {"message": how.message, "type": "error", "code": how.status}}).encode()
            writer.write(b"HTTP/1.1 %d no\r\ncontent-type: application/json\r\n" % how.status)
            writer.write(b"content-length: %d\r\nconnection: close\r\n\r\n" % len(error) + error)
            await writer.drain()
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        writer.write(_chunk(body, {"role": "assistant"}))
        for number, piece in enumerate(how.pieces):
            if number == how.stall_after:
                await _pause(reader, FOREVER)
            if number == how.cut_after:
                await writer.drain()
                writer.transport.abort()
                return
            await _pause(reader, how.between_s)
            writer.write(_chunk(body, {"content": piece}))
            await writer.drain()
        if how.then is not None:
            writer.write(how.then)
        elif how.finish is not None:
            writer.write(_chunk(body, {}, finish=how.finish))
            if how.usage is not None and "stream_options" in body:
                asked, told = how.usage
                writer.write(_chunk(body, None, usage={"prompt_tokens": asked, "completion_tokens": told}))
            writer.write(b"data: [DONE]\n\n")
        await writer.drain()


class _HungUp(Exception):
    pass


async def _pause(reader: asyncio.StreamReader, seconds: float) -> None:
    """Wait, unless the client goes away."""
    with suppress(TimeoutError):
        if not await asyncio.wait_for(reader.read(1), seconds):
            raise _HungUp


def _chunk(
    body: dict[str, Any],
    delta: dict[str, str] | None,
    *,
    finish: str | None = None,
    usage: dict[str, int] | None = None,
) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": body["model"], "choices": choices}
    return f"data: {json.dumps(chunk | {'usage': usage})}\n\n".encode()


@asynccontextmanager
async def serving(behaviour: Behaviour = WELL, *, port: int = 0) -> AsyncIterator[LlmServer]:
    """Serve on 127.0.0.1 while the block runs; what is still being answered then is broken off."""
    double = LlmServer(behave=lambda _: behaviour)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(double.answer(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    double.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield double
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
