"""Breaks the connections of answer streams at random places, as networks and dying gateways do."""

import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx


@dataclass(kw_only=True)
class Cutting(httpx.AsyncBaseTransport):
    """Carries requests, and breaks off a share of the answer streams somewhere: between events, or within one.

    Attributes:
        rng: says which stream and where.
        share: of the streams that are cut, 0 to 1.
        most_events: the latest place of a cut; a gateway sends every event as a chunk of its own.
        cuts: addresses whose stream was cut, in order.
    """

    rng: random.Random
    share: float
    most_events: int = 12
    cuts: list[str] = field(default_factory=list)
    _inner: httpx.AsyncHTTPTransport = field(default_factory=httpx.AsyncHTTPTransport)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        streamed = response.headers.get("content-type", "").startswith("text/event-stream")
        if streamed and self.rng.random() < self.share:
            assert isinstance(response.stream, httpx.AsyncByteStream)
            response.stream = _Cut(self, str(request.url), response.stream, self.rng.uniform(0, self.most_events))
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


@dataclass
class _Cut(httpx.AsyncByteStream):
    by: Cutting
    url: str
    inner: httpx.AsyncByteStream
    place: float
    """How many chunks are whole, and how much of the next one is there."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        n_whole = 0
        async for chunk in self.inner:
            if n_whole >= int(self.place):
                self.by.cuts.append(self.url)
                yield chunk[: int(len(chunk) * (self.place - n_whole))]
                raise httpx.ReadError("the connection was cut")
            n_whole += 1
            yield chunk

    async def aclose(self) -> None:
        await self.inner.aclose()
