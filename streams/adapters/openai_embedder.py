"""Vectors from an OpenAI-compatible endpoint: OpenAI, vLLM, Text Embeddings Inference, Ollama, llama.cpp and others."""

import asyncio
import base64
import binascii
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

import httpx
import msgspec
import numpy as np

from backbone.settings import EncoderSettings
from streams.adapters.whole_texts import Role
from streams.errors import Fatal, Transient, Unprocessable
from streams.ports import Vectors

CONNECT_S: Final = 5.0
PATIENCE_S: Final = 60.0
"""How long a batch of chunks waits for an endpoint that is busy: what other batches of its document have cost is lost
where it gives up. A question does not wait here: the runtime knows its deadline."""
FIRST_PAUSE_S: Final = 1.0
"""Before an endpoint that did not say when is asked again; doubled each time."""
SHORT_BYTES: Final = 256
"""A text that is refused is halved until it has no more than this."""

_BYTES_PER_TOKEN: Final = 3.5
_BUSY: Final = frozenset({408, 409, 425, 429})
_REFUSED: Final = frozenset({400, 413, 422})
_DENIED: Final = frozenset({401, 403, 404})
_TOO_LONG: Final = re.compile("too (large|long) to process|context (length|size|window)", re.IGNORECASE)


class _Embedding(msgspec.Struct):
    index: int
    embedding: list[float] | str


class _Embeddings(msgspec.Struct):
    data: list[_Embedding]


class _Busy(Exception):
    def __init__(self, why: str, after_s: float = 0.0) -> None:
        super().__init__(why)
        self.after_s = after_s


class _Refused(Exception):
    pass


def http_client(settings: EncoderSettings) -> httpx.AsyncClient:
    """Make the client of the endpoint that the settings name; the caller closes it.

    Raises:
        Fatal: they name none.
    """
    url = settings.embeddings_base_url
    if not url.startswith(("http://", "https://")):
        raise Fatal(
            f"HEADRACE_EMBEDDINGS_BASE_URL is {url!r}, and an embedder of the kind 'openai' needs it; expected an "
            "address as https://host/v1"
        )
    key = settings.embeddings_api_key.get_secret_value()
    return httpx.AsyncClient(
        # certificates are checked; where the address has none, reading all authorities would be a tenth of a second
        verify=url.startswith("https://"),
        base_url=url.rstrip("/") + "/",
        headers={"Authorization": f"Bearer {key}"} if key else {},
        timeout=httpx.Timeout(settings.embeddings_timeout_ms / 1000, connect=CONNECT_S),
        limits=httpx.Limits(max_connections=settings.embeddings_concurrency),
    )


@dataclass(kw_only=True)
class OpenaiEmbedder:
    """`Embedder` over HTTP. Requests hold as many texts as the limits let them, and a few run at the same time.

    An endpoint that asks for a pause gets it from all requests. One that refuses a batch gets it in halves, so that a
    text which it does not take costs the others nothing; that text is shortened.

    Attributes:
        client: of the endpoint; `base_url` ends with a slash.
        model: name there.
        dim: length that its vectors must have; None: any.
        dimensions: asked of the endpoint; None: not asked.
        batch_max: texts in a request.
        batch_tokens: tokens in a request, estimated.
        input_tokens: of a text, estimated; what is longer is cut.
        at_once: requests.
        timeout_s: of a request.
        on_encoded: called with (number of texts, seconds) after each request.
        now: seconds of a clock that only goes forward.
        sleep: lets so many seconds pass.
    """

    client: httpx.AsyncClient
    model: str
    dim: int | None = None
    dimensions: int | None = None
    batch_max: int = 256
    batch_tokens: int = 100_000
    input_tokens: int = 8_000
    at_once: int = 4
    timeout_s: float = 30.0
    on_encoded: Callable[[int, float], None] = lambda n, seconds: None
    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _slots: asyncio.Semaphore = field(init=False)
    _opens_at: float = field(default=0.0, init=False)
    _n_refused: int = field(default=0, init=False)
    _format: str | None = field(default="base64", init=False)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.at_once)

    async def __call__(self, texts: Sequence[str], role: Role, /) -> Vectors:
        """See `Embedder`.

        Raises:
            Transient: the endpoint is busy, slow or away.
            Unprocessable: `embedder_refused`: it takes one of the texts in no length.
            Fatal: the key or the model is wrong, or what it sends is not what was asked for.
        """
        patience_s = PATIENCE_S if role == "chunk" else 0.0
        tasks = [asyncio.create_task(self._embedded(batch, patience_s)) for batch in self._batches(texts)]
        try:
            return np.concatenate(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()

    async def close(self) -> None:
        """Close the connections."""
        await self.client.aclose()

    def _batches(self, texts: Sequence[str]) -> Iterator[list[str]]:
        batch: list[str] = []
        n_tokens = 0.0
        for text in texts:
            text = _cut(text, int(self.input_tokens * _BYTES_PER_TOKEN))
            more = len(text.encode(errors="replace")) / _BYTES_PER_TOKEN
            if batch and (len(batch) == self.batch_max or n_tokens + more > self.batch_tokens):
                yield batch
                batch, n_tokens = [], 0.0
            batch.append(text)
            n_tokens += more
        if batch:
            yield batch

    async def _embedded(self, texts: Sequence[str], patience_s: float) -> Vectors:
        """Embed what may be one batch."""
        if len(texts) > self.batch_max:
            return await self._in_halves(texts, patience_s)
        try:
            return await self._patiently(texts, patience_s)
        except _Refused as refused:
            if len(texts) > 1:
                before = self._n_refused
                vectors = await self._in_halves(texts, patience_s)
                if self._n_refused == before:
                    # it was the batch, and no text in it
                    self.batch_max = min(self.batch_max, len(texts) // 2)
                return vectors
            self._n_refused += 1
            n_bytes = len(texts[0].encode(errors="replace"))
            if n_bytes <= SHORT_BYTES:
                raise Unprocessable(
                    "embedder_refused", f"the embeddings endpoint refused a text of {n_bytes} bytes: {refused}"
                ) from refused
            return await self._embedded([_cut(texts[0], n_bytes // 2)], patience_s)

    async def _in_halves(self, texts: Sequence[str], patience_s: float) -> Vectors:
        # one after the other: where all of it is refused, the first text tells
        middle = len(texts) // 2
        return np.concatenate([await self._embedded(half, patience_s) for half in (texts[:middle], texts[middle:])])

    async def _patiently(self, texts: Sequence[str], patience_s: float) -> Vectors:
        until, pause_s = self.now() + patience_s, FIRST_PAUSE_S
        while True:
            wait_s = self._opens_at - self.now()
            if self._opens_at > until and wait_s > 0:
                raise Transient(f"the embeddings endpoint asked for a pause, which ends in {wait_s:.0f} s")
            if wait_s > 0:
                await self.sleep(wait_s)
            try:
                async with self._slots:
                    return await self._asked(texts)
            except _Busy as busy:
                self._opens_at = max(self._opens_at, self.now() + busy.after_s)
                wait_s = max(busy.after_s, pause_s)
                if self.now() + wait_s > until:
                    raise Transient(f"the embeddings endpoint is not to be had: {busy}") from busy
                await self.sleep(wait_s)
                pause_s *= 2

    async def _asked(self, texts: Sequence[str]) -> Vectors:
        body: dict[str, Any] = {"model": self.model, "input": list(texts)}
        if self._format:
            body["encoding_format"] = self._format
        if self.dimensions:
            body["dimensions"] = self.dimensions
        begun = time.perf_counter()
        try:
            async with asyncio.timeout(self.timeout_s):
                response = await self.client.post("embeddings", json=body)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise _Busy(f"no answer within {self.timeout_s:g} s") from error
        except httpx.HTTPError as error:
            raise _Busy(f"no connection: {type(error).__name__}") from error
        if response.status_code == 200:
            vectors = self._read(response.content, len(texts))
            self.on_encoded(len(texts), time.perf_counter() - begun)
            return vectors
        said = _said(response)
        if response.status_code in _REFUSED and self._format and "encoding_format" in said:
            self._format = None
            return await self._asked(texts)
        raise self._failure(response, said)

    def _failure(self, response: httpx.Response, said: str) -> Exception:
        status = response.status_code
        # llama.cpp answers 500 to a text that is longer than its window
        if status in _REFUSED or (status >= 500 and _TOO_LONG.search(said)):
            return _Refused(f"{status}: {said}")
        if status in _BUSY or status >= 500:
            return _Busy(f"it answered {status}: {said}", _pause_s(response.headers))
        if status in _DENIED:
            return Fatal(
                f"the embeddings endpoint answered {status} for the model {self.model!r}: {said}; check "
                "HEADRACE_EMBEDDINGS_BASE_URL, HEADRACE_EMBEDDINGS_API_KEY and the model's name"
            )
        return Fatal(f"the embeddings endpoint answered {status}: {said}; is HEADRACE_EMBEDDINGS_BASE_URL its address?")

    def _read(self, content: bytes, n_texts: int) -> Vectors:
        try:
            data = sorted(msgspec.json.decode(content, type=_Embeddings).data, key=lambda item: item.index)
            rows = [_row(item.embedding) for item in data]
        except (msgspec.DecodeError, binascii.Error, ValueError, UnicodeDecodeError) as error:
            raise Fatal(f"what the embeddings endpoint sent is no list of vectors: {error}") from error
        if [item.index for item in data] != list(range(n_texts)):
            raise Fatal(
                f"the embeddings endpoint sent {len(rows)} vectors for {n_texts} texts, or counted them wrongly"
            )
        lengths = {row.size for row in rows}
        if len(lengths) != 1 or 0 in lengths or (self.dim is not None and lengths != {self.dim}):
            raise Fatal(
                f"the vectors of {self.model!r} have {', '.join(map(str, sorted(lengths)))} dimensions; expected "
                f"{self.dim or 'one length for all'}. Another model has this name, or it cannot shorten its vectors"
            )
        vectors = np.stack(rows)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        if not np.isfinite(vectors).all() or not (norms > 1e-12).all():
            raise Fatal(f"the vectors of {self.model!r} hold values that are not finite, or nothing but zeros")
        normalised: Vectors = vectors / norms
        return normalised


def _row(embedding: list[float] | str) -> Vectors:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding, validate=True), "<f4").astype(np.float32)
    return np.array(embedding, np.float32)


def _cut(text: str, max_bytes: int) -> str:
    raw = text.encode(errors="replace")
    return text if len(raw) <= max_bytes else raw[:max_bytes].decode(errors="ignore")


def _said(response: httpx.Response) -> str:
    """Return the endpoint's own words, shortened."""
    try:
        body = msgspec.json.decode(response.content)
        error = body.get("error", body) if isinstance(body, dict) else body
        words = error.get("message", error) if isinstance(error, dict) else error
    except msgspec.DecodeError:
        words = response.content[:300].decode(errors="replace")
    return " ".join(str(words).split())[:300]


def _pause_s(headers: httpx.Headers) -> float:
    """Return for how long the endpoint wants to be left alone; 0: it does not say."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        with suppress(ValueError):
            return max(0.0, float(headers.get(name, ""))) * unit_s
    try:
        until = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return 0.0
    return max(0.0, (until.astimezone(UTC) - datetime.now(UTC)).total_seconds())
