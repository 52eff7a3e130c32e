"""How a gateway stops: first it says so, then it closes its port."""

import asyncio
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn

from gateway.server import Server
from tests.gateway.factories import gateway_in_memory

NOTICE_S = 0.5


@asynccontextmanager
async def serving(tmp_path: Path, notice_s: float) -> "AsyncIterator[tuple[Server, asyncio.Task[None], str]]":
    """A server that nobody stops but the test."""
    async with gateway_in_memory(tmp_path) as gateway:
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            gateway.app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=30
        )
        server = Server(gateway.app, config, notice_s=notice_s)
        # Signals belong to the test run, so not serve().
        task = asyncio.create_task(server._serve([listener]))
        try:
            while not server.started:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            yield server, task, f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            await task
            listener.close()


async def test_it_says_that_it_is_not_ready_before_it_closes_its_port(tmp_path: Path) -> None:
    async with serving(tmp_path, NOTICE_S) as (server, task, url), httpx.AsyncClient(timeout=60) as client:
        assert (await client.get(f"{url}/ready")).status_code == 200

        began = time.monotonic()
        server.handle_exit(signal.SIGTERM, None)
        ready = await client.get(f"{url}/ready")
        served = await client.get(f"{url}/health")
        async with asyncio.timeout(5):
            await task

        assert (ready.status_code, ready.json()["ready"], ready.json()["stopping"]) == (503, False, True)
        assert served.status_code == 200
        assert time.monotonic() - began >= NOTICE_S
        with pytest.raises(httpx.ConnectError):
            await client.get(f"{url}/health")


async def test_without_notice_it_closes_its_port_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, 0.0) as (server, task, _):
        server.handle_exit(signal.SIGTERM, None)

        async with asyncio.timeout(2):
            await task


async def test_a_second_signal_ends_it_without_waiting(tmp_path: Path) -> None:
    async with serving(tmp_path, 60.0) as (server, task, url):
        server.handle_exit(signal.SIGTERM, None)
        # a request that never ends, which would be waited for
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))
        writer.write(b"POST /v1/ingest HTTP/1.1\r\nhost: here\r\ncontent-length: 100\r\n\r\n{")
        await writer.drain()
        await asyncio.sleep(0.2)

        server.handle_exit(signal.SIGTERM, None)

        async with asyncio.timeout(5):
            await task
        writer.close()
        assert await reader.read() is not None
