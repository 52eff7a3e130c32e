"""Event streams as responses: heartbeats, readers that are slow or gone, a gateway that stops."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.answering import AnswerEvent
from gateway.problems import Problem
from gateway.sse import EventStream, OpenStreams, frame
from tests.gateway.factories import ANSWER, ask, gateway_in_memory, sources, sse, whole_answer
from tests.gateway.serving import served

Message = dict[str, Any]


@dataclass
class Connection:
    """A caller of a stream, without a socket. It takes what is sent while `reads` is set."""

    sent: list[Message] = field(default_factory=list)
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, message: Message) -> None:
        await self.reads.wait()
        self.sent.append(message)
        self.arrived.set()

    async def receive(self) -> Message:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    async def until(self, wanted: bytes) -> None:
        """Wait for a part of the body."""
        async with asyncio.timeout(5):
            while wanted not in self.body:
                self.arrived.clear()
                await self.arrived.wait()


@dataclass
class Events:
    """Events of a stream; ends when `last` is set. `closed` once nobody wants more."""

    last: asyncio.Event = field(default_factory=asyncio.Event)
    closed: bool = False

    async def __call__(self) -> AsyncGenerator[AnswerEvent, None]:
        try:
            yield AnswerEvent(name="token", data={"text": "Grüße\n"}, place="2:1")
            await self.last.wait()
            yield AnswerEvent(name="done", data={}, place=None)
        finally:
            self.closed = True


def begin(streams: OpenStreams, events: Events, connection: Connection) -> "asyncio.Task[None]":
    """Begin to send a stream to a caller that reads."""
    streams.take()
    connection.reads.set()
    stream = EventStream(streams, events())
    return asyncio.create_task(stream({}, connection.receive, connection.send))  # type: ignore[arg-type]


def test_a_frame_holds_id_event_and_one_line_of_data() -> None:
    event = AnswerEvent(name="token", data={"text": "Grüße\n"}, place="2:1")
    assert frame(event).decode() == 'id: 2:1\nevent: token\ndata: {"text":"Grüße\\n"}\n\n'
    assert frame(AnswerEvent(name="reset", data={})) == b"event: reset\ndata: {}\n\n"


async def test_a_stream_begins_with_the_pause_before_a_reader_comes_again_and_ends_with_its_events() -> None:
    streams, events, connection = OpenStreams(9), Events(), Connection()
    events.last.set()

    await begin(streams, events, connection)

    assert connection.body.startswith(b"retry: 1000\nid: 2:1\n")
    assert connection.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert (streams.n_open, events.closed) == (0, True)


async def test_a_silent_stream_sends_comments() -> None:
    streams = OpenStreams(9, heartbeat_s=0.01, tick_s=0.005)
    events, connection = Events(), Connection()
    sending = begin(streams, events, connection)

    await connection.until(b": heartbeat\n\n: heartbeat\n\n")

    events.last.set()
    await sending
    assert sse(connection.body.decode())[-1][0] == "done"


async def test_a_caller_that_goes_away_ends_the_stream() -> None:
    streams, events, connection = OpenStreams(9), Events(), Connection()
    sending = begin(streams, events, connection)
    await connection.until(b"token")

    connection.gone.set()
    await sending

    assert (streams.n_open, events.closed) == (0, True)
    assert b"done" not in connection.body


async def test_a_caller_that_does_not_read_is_cut_off_without_an_end() -> None:
    streams = OpenStreams(9, send_timeout_s=0.01, tick_s=0.005)
    events, connection = Events(), Connection()
    sending = begin(streams, events, connection)
    await connection.until(b"token")

    connection.reads.clear()
    events.last.set()
    async with asyncio.timeout(5):
        await sending

    assert (streams.n_open, events.closed) == (0, True)
    assert b"done" not in connection.body
    assert connection.sent[-1]["more_body"]


async def test_a_gateway_that_stops_ends_its_streams_without_an_event_and_takes_no_more() -> None:
    streams, events, connection = OpenStreams(9), Events(), Connection()
    sending = begin(streams, events, connection)
    await connection.until(b"token")

    streams.close()
    await sending

    last = connection.sent[-1]
    assert (last["body"].startswith(b": this gateway stops"), last["more_body"]) == (True, False)
    assert [name for name, _, _ in sse(connection.body.decode())] == ["token"]
    with pytest.raises(Problem) as refused:
        streams.take()
    assert (refused.value.status_code, (refused.value.headers or {})["Retry-After"]) == (503, "2")


async def test_a_request_that_is_cancelled_from_outside_stays_cancelled() -> None:
    streams, events, connection = OpenStreams(9), Events(), Connection()
    sending = begin(streams, events, connection)
    await connection.until(b"token")

    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending

    assert (streams.n_open, events.closed) == (0, True)


async def test_a_server_that_stops_lets_the_reader_of_a_stream_go_on_elsewhere(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path) as gateway:
        row = await ask(gateway)
        await gateway.replies.put(sources(row.asked))
        headers = {"Authorization": "Bearer acme-key"}
        async with httpx.AsyncClient(headers=headers) as client, asyncio.timeout(4):
            async with served(gateway.app, lifespan="off") as url:
                response = await client.send(
                    client.build_request("GET", f"{url}/v1/queries/{row.id}/events"), stream=True
                )
                lines = response.aiter_lines()
                while await anext(lines) != "event: sources":
                    pass
            rest = [line async for line in lines]
        assert not [line for line in rest if line.startswith("event")]
        async with gateway_in_memory(tmp_path, beside=gateway) as other:
            await gateway.replies.put(*whole_answer(row.asked))
            resumed = await other.acme.get(f"/v1/queries/{row.id}/events", headers={"Last-Event-ID": "2:41"})
        assert "".join(data["text"] for name, data, _ in sse(resumed.text) if name == "token") == ANSWER.text
