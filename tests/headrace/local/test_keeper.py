"""A part is ready only when the process that was started for it answers."""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from headrace.local.keeper import Keeper
from headrace.local.parts import Part, answers
from headrace.local.ports import PortTaken, free_ports, listens
from headrace.local.record import PartRecord
from headrace.local.table import Backoff

DUMMY = str(Path(__file__).with_name("dummy_part.py"))


class Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def stranger_on(port: int) -> Iterator[None]:
    """Another stack's gateway, as far as a probe can see."""
    server = HTTPServer(("127.0.0.1", port), Stranger)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def keeper(folder: Path, port: int, *arguments: str) -> Keeper:
    """A gateway, whose process is the dummy."""

    async def ready() -> bool:
        return await answers(port)

    return Keeper(
        part=Part(
            name="gateway",
            command=lambda: [sys.executable, DUMMY, *arguments],
            env=dict(os.environ) | {"DUMMY_PORT": str(port)},
            ready=ready,
            port=port,
        ),
        log=folder / "gateway.log",
        record=PartRecord(),
        backoff=Backoff(first_s=0.02, start_s=20),
        ports=folder / "state.json",
        changed=lambda: None,
    )


@pytest.mark.parametrize("process", ["deaf", "serving"])
async def test_a_stranger_that_answers_on_the_port_is_not_the_part(tmp_path: Path, process: str) -> None:
    (port,) = free_ports(1)
    kept = keeper(tmp_path, port, process)

    with stranger_on(port), pytest.raises(PortTaken, match=f"^port {port} of gateway is taken by .*headrace up --port"):
        await kept.start()

    await kept.stop()
    assert kept.record.state == "stopped"


async def test_the_process_itself_is_the_part(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    kept = keeper(tmp_path, port)

    await kept.start()

    assert kept.record.state == "ready"
    await kept.stop()


def test_a_process_listens_on_its_own_ports_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert listens(os.getpid(), port)
        assert not listens(os.getppid(), port + 1)
    assert not listens(os.getpid(), port)
