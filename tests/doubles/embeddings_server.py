"""An OpenAI-compatible embeddings endpoint on this machine, of bags of words, that fails as it is told."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from backbone.settings import EncoderSettings
from schemas.events import Chunk
from tests.doubles.encoder import HashingEncoder

FOREVER: Final = 3600.0


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How one request is answered.

    Attributes:
        status: other than 200: this error with `message`.
        headers: sent with it.
        hang_up: close the connection without a byte.
        pause_s: before the answer.
        raw: sent instead of vectors.
        mangled: what becomes of the list of vectors before it is sent.
        base64: numbers are sent so where they are asked for so.
    """

    status: int = 200
    message: str = "no"
    headers: Mapping[str, str] = field(default_factory=dict)
    hang_up: bool = False
    pause_s: float = 0.0
    raw: bytes | None = None
    mangled: Callable[[list[dict[str, Any]]], Any] = lambda data: data
    base64: bool = True


WELL: Final = Behaviour()


@dataclass(kw_only=True)
class EmbeddingsServer:
    """Serves `/v1/embeddings`; see `serving`.

    Attributes:
        url: base address for a client.
        behave: chooses the behaviour by the request's body.
        requests: bodies received, in order; `keys` are the Authorization headers that came with them.
        most_open: requests that were being answered at once, at most.
    """

    url: str = ""
    behave: Callable[[dict[str, Any]], Behaviour] = lambda _: WELL
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    n_open: int = 0
    most_open: int = 0
    encoder: HashingEncoder = field(default_factory=HashingEncoder)

    def settings(self, **others: Any) -> EncoderSettings:
        """Settings of a process that uses this endpoint."""
        return EncoderSettings.model_validate({"embeddings_base_url": self.url, **others})

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, which takes one request."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.splitlines())
            }
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            assert head.startswith("POST /v1/embeddings ")
            self.requests.append(body)
            self.keys.append(headers.get("authorization"))
            self.n_open += 1
            self.most_open = max(self.most_open, self.n_open)
            try:
                await self._reply(self.behave(body), body, writer)
            finally:
                self.n_open -= 1
        writer.close()

    async def _reply(self, how: Behaviour, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(how.pause_s)
        if how.hang_up:
            return
        content = how.raw
        if content is None and how.status != 200:
            content = json.dumps({"error": {"message": how.message, "type": "error", "code": None}}).encode()
        elif content is None:
            content = json.dumps({"object": "list", "data": how.mangled(await self._data(how, body))}).encode()
        lines = [f"HTTP/1.1 {how.status} x", f"content-length: {len(content)}", "connection: close"]
        lines += [f"{name}: {value}" for name, value in how.headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)
        await writer.drain()

    async def _data(self, how: Behaviour, body: dict[str, Any]) -> list[dict[str, Any]]:
        texts = body["input"]
        said = [
            Chunk(id="", ordinal=0, text=text, start=0, end=0, headings=[], n_tokens=0, sentences=[]) for text in texts
        ]
        vectors = (await self.encoder.encode_chunks(said)).chunks[:, : body.get("dimensions")]
        as_base64 = how.base64 and body.get("encoding_format") == "base64"
        return [
            # not of length one: normalising is not the endpoint's business
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode((3 * row).astype("<f4").tobytes()).decode()
                if as_base64
                else (3 * row).tolist(),
            }
            for index, row in enumerate(vectors)
        ]


@asynccontextmanager
async def serving(behaviour: Behaviour = WELL) -> AsyncIterator[EmbeddingsServer]:
    """Serve on 127.0.0.1 while the block runs; what is still being answered then is broken off."""
    double = EmbeddingsServer(behave=lambda _: behaviour)
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(double.answer(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=64 * 1024 * 1024)
    double.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield double
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def first_then(first: list[Behaviour], then: Behaviour = WELL) -> Callable[[dict[str, Any]], Behaviour]:
    """Behave as each of the first, one request each, and then as the last."""
    left = iter(first)
    return lambda _: next(left, then)
