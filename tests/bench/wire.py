"""The smallest client of HTTP/1.1 that a load generator on the same two cores can afford; nothing for other use."""

import asyncio
import json
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Response:
    """A whole response; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection that is kept alive."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read status and headers."""
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = (line.partition(":") for line in lines[1:] if line)
        return int(lines[0].split(" ", 2)[1]), {name.lower(): value.strip() for name, _, value in headers}


@dataclass(kw_only=True)
class Wire:
    """Connections to one gateway.

    Attributes:
        url: as `http://127.0.0.1:8080`.
        key: API key.
    """

    url: str
    key: str
    _idle: deque[Connection] = field(default_factory=deque)

    async def post(self, path: str, body: Any, headers: str = "") -> Response:
        """Send JSON and read the whole response; `headers` are further lines, each with its line end."""
        connection = self._idle_one() or await self.connect()
        connection.writer.write(self.request("POST", path, body, headers))
        status, found = await connection.head()
        data = await connection.reader.readexactly(int(found["content-length"]))
        if found.get("connection") == "close":
            connection.writer.close()
        else:
            self._idle.append(connection)
        return Response(status, found, data)

    def _idle_one(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.reader.at_eof():
                return connection
            connection.writer.close()  # the gateway keeps idle ones for five seconds
        return None

    async def connect(self) -> Connection:
        """Open a connection."""
        parts = urlsplit(self.url)
        return Connection(*await asyncio.open_connection(parts.hostname, parts.port))

    def request(self, method: str, path: str, body: Any = None, headers: str = "") -> bytes:
        """Write a request down; its body is JSON."""
        data = b"" if body is None else json.dumps(body).encode()
        lines = (
            f"{method} {path} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {self.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n{headers}\r\n"
        )
        return lines.encode() + data

    def close(self) -> None:
        """Close the idle connections."""
        for connection in self._idle:
            connection.writer.close()
