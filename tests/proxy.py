"""A TCP proxy in front of a part, which carries, delays, throttles, freezes, cuts and refuses as it is told.

It runs in a thread of its own, so that tests of any kind may use it, and what they do meanwhile does not slow it down.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

_CHUNK_BYTES: Final = 64 * 1024
_WAITING_MAX: Final = 64
"""Chunks of one direction of one connection that are held; then the sender has to wait."""
_RESET: Final = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends a reset instead of what is left."""


@dataclass(kw_only=True)
class Proxy:
    """Carries what comes to its port on 127.0.0.1 to another port there; see `proxy`.

    Attributes:
        to_port: where it is carried.
        port: where it comes in.
        n_accepted: connections so far.
        n_bytes: carried so far, both ways.
    """

    to_port: int
    port: int = 0
    n_accepted: int = 0
    n_bytes: int = 0
    _delay_s: float = 0.0
    _bytes_per_s: float = float("inf")
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None
    _connections: "set[asyncio.Task[None]]" = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    @contextmanager
    def slow(self, *, round_trip_s: float = 0.0, bytes_per_s: float = float("inf")) -> Iterator[None]:
        """Add to every round trip, and limit each direction of each connection, while the block runs."""
        self._do(partial(self._set_speed, round_trip_s / 2, bytes_per_s))
        try:
            yield
        finally:
            self._do(partial(self._set_speed, 0.0, float("inf")))

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Accept connections and carry nothing while the block runs; what was sent meanwhile is carried afterwards."""
        self._do(self._open.clear)
        try:
            yield
        finally:
            self._do(self._open.set)

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Reset all connections and refuse new ones while the block runs."""
        self._do(self._close)
        try:
            yield
        finally:
            self._do(self._listen)

    def cut(self) -> int:
        """Reset all connections; new ones are carried. Returns how many there were."""
        return int(self._do(self._cut))

    def start(self) -> None:
        """Carry from now on; see `proxy`."""
        threading.Thread(target=self._loop.run_forever, name=f"proxy to {self.to_port}", daemon=True).start()
        self._do(self._listen)
        self._do(self._open.set)

    def stop(self) -> None:
        """Reset all connections and refuse new ones for good."""
        self._do(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _do(self, what: Callable[[], Any]) -> Any:
        """Do something in the thread of the proxy; return when it is done."""

        async def done() -> Any:
            result = what()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(10)

    def _set_speed(self, delay_s: float, bytes_per_s: float) -> None:
        self._delay_s, self._bytes_per_s = delay_s, bytes_per_s

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        await self._cut()

    async def _cut(self) -> int:
        cut = list(self._connections)
        for task in cut:
            task.cancel()
        await asyncio.gather(*cut, return_exceptions=True)
        return len(cut)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self.n_accepted += 1
        try:
            await self._carry(reader, writer)
        except (OSError, asyncio.CancelledError):
            _reset(writer)
        finally:
            self._connections.discard(task)
            writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._one_way(reader, far_writer))
                both.create_task(self._one_way(far_reader, writer))
        except* OSError as errors:
            # the connection of the one side is gone, so that of the other goes, too
            raise ConnectionResetError from errors
        finally:
            _reset(far_writer)
            far_writer.close()

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry until the sender has said its last; later chunks do not wait for the delay of earlier ones."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_WAITING_MAX)
        async with asyncio.TaskGroup() as both:
            both.create_task(self._take(reader, waiting))
            both.create_task(self._give(waiting, writer))

    async def _take(self, reader: asyncio.StreamReader, waiting: "asyncio.Queue[tuple[float, bytes]]") -> None:
        chunk = b"?"
        while chunk:
            chunk = await reader.read(_CHUNK_BYTES)
            await waiting.put((self._loop.time() + self._delay_s, chunk))

    async def _give(self, waiting: "asyncio.Queue[tuple[float, bytes]]", writer: asyncio.StreamWriter) -> None:
        while True:
            due_s, chunk = await waiting.get()
            await asyncio.sleep(max(0.0, due_s - self._loop.time(), len(chunk) / self._bytes_per_s))
            await self._open.wait()
            if not chunk:
                with suppress(OSError):
                    writer.write_eof()
                return
            writer.write(chunk)
            self.n_bytes += len(chunk)
            await writer.drain()


@contextmanager
def proxy(to_port: int, port: int = 0) -> Iterator[Proxy]:
    """Run a proxy while the block runs.

    Args:
        to_port: on 127.0.0.1; nothing needs to listen there yet.
        port: where the proxy listens; 0: a free one.
    """
    made = Proxy(to_port=to_port, port=port)
    made.start()
    try:
        yield made
    finally:
        made.stop()


def kafka_listener(*, port: int, controller_port: int, behind: int, proxy_port: int) -> dict[str, str]:
    """Return the settings of a broker that sends whoever comes through a proxy through that proxy again.

    Clients come to a broker by the address that it tells them, whatever address they asked first. So those of a proxy
    need a listener of their own.

    Args:
        port: of the broker for all others.
        controller_port: of the broker.
        behind: port of the listener that the proxy carries to.
        proxy_port: of the proxy.
    """
    return {
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port},"
        f"PROXIED://127.0.0.1:{behind}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{proxy_port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,PROXIED:PLAINTEXT",
    }


def _reset(writer: asyncio.StreamWriter) -> None:
    """Let the connection end with a reset, as a broken network or a killed process ends it."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
