"""A stand-in for a Docker engine: it answers what a client asks, writes down what was asked, and runs nothing."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

import msgspec

VERSION: Final = {"ApiVersion": "1.47", "MinAPIVersion": "1.24", "Version": "27.0", "Os": "linux", "Arch": "amd64"}
ID: Final = "c0ffee" * 10
FRAME: Final = bytes([1, 0, 0, 0, 0, 0, 0, 5]) + b"oops\n"


@dataclass(kw_only=True)
class Engine:
    """What an engine was asked.

    Attributes:
        address: for `DOCKER_HOST`.
        state: of its one container, as `running`.
        held: images that it has.
        obtainable: images that it can fetch.
        created: bodies of the requests for containers.
        done: the other requests that change something, as `POST /containers/…/start`.
    """

    address: str = ""
    state: str = "running"
    held: set[str] = field(default_factory=set)
    obtainable: set[str] = field(default_factory=set)
    created: list[dict[str, Any]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """Answer one request; bytes are sent as they are."""
        path, _, query = re.sub(r"^/v[\d.]+", "", path).partition("?")
        if path in ("/version", "/_ping", "/info"):
            return 200, VERSION
        if path == "/networks":
            return 200, []
        if path == "/images/create":
            return self._fetched(query)
        if found := re.fullmatch("/images/(.+)/json", path):
            known = found[1] in self.held
            return (200, {"Id": found[1]}) if known else (404, {"message": f"no such image: {found[1]}"})
        if path == "/containers/create":
            self.created.append(msgspec.json.decode(body))
            return 201, {"Id": ID, "Warnings": []}
        if path == f"/containers/{ID}/json":
            return 200, {"Id": ID, "Name": "/some", "State": {"Status": self.state}, "Config": {"Tty": False}}
        if path == f"/containers/{ID}/logs":
            return 200, FRAME
        if path.startswith(f"/containers/{ID}") and method in ("POST", "DELETE"):
            self.done.append(f"{method} {path.replace(ID, '…')}?{query}".rstrip("?"))
            return 204, b""
        return 500, {"message": f"{method} {path} is not known here"}

    def _fetched(self, query: str) -> tuple[int, Any]:
        wanted = {name for name in self.obtainable if f"fromImage={_quoted(name.rsplit(':', 1)[0])}" in query}
        self.held |= wanted
        return (200, {"status": "done"}) if wanted else (404, {"message": "pull access denied"})


@contextmanager
def engine() -> Iterator[Engine]:
    """Run one on a free port of 127.0.0.1 while the block runs."""
    made = Engine()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = made.answer(self.command, self.path, body)
            sent = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_DELETE = do_HEAD = _do  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.address = f"tcp://127.0.0.1:{server.server_address[1]}"
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()


def _quoted(name: str) -> str:
    return name.replace("/", "%2F").replace(":", "%3A")
