"""The encoders of one process: each is opened once for each lane, and all are closed together."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from backbone.settings import EncoderSettings
from streams.adapters.embedder_spec import EmbedderSpec, parse_embedder
from streams.adapters.openai_embedder import OpenaiEmbedder, http_client
from streams.adapters.whole_texts import Embedder, WholeTexts
from streams.errors import Fatal, Unprocessable
from streams.ports import Encoder

if TYPE_CHECKING:
    from streams.adapters.sentence_transformers_embedder import SentenceTransformersEmbedder

OnEncoded = Callable[[int, float], None]
"""Called with (number of texts, seconds) after each batch, in whatever thread encoded it."""


class Opened(Encoder, Protocol):
    """An encoder that holds threads, memory or connections."""

    async def close(self) -> None:
        """Give them back; texts that wait get CancelledError."""
        ...


@dataclass(kw_only=True)
class Encoders:
    """Opens encoders by the names of their embedders.

    Generations that share an embedder share its encoder. Lanes do not: a question must not wait behind the chunks of a
    long document. However many models there are, one of a lane runs at a time, so that they do not take the cores from
    each other.

    Attributes:
        settings: where models and endpoints are.
    """

    settings: EncoderSettings
    _opened: dict[tuple[str, str], Opened] = field(default_factory=dict, init=False)
    _threads: dict[str, ThreadPoolExecutor] = field(default_factory=dict, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def get(self, name: str, *, dim: int, lane: str, on_encoded: OnEncoded = lambda n, seconds: None) -> Encoder:
        """Return an encoder, opening it on first sight, which may take seconds; safe in any thread.

        Args:
            name: of the embedder, as in a generation's row.
            dim: length of the vectors that the generation holds.
            lane: who asks, as `query`.
            on_encoded: counts; that of the first caller of a lane counts for all.

        Raises:
            Fatal: there is no such embedder here, its vectors have another length, or a part of it is missing.
        """
        spec = parse_embedder(name)
        with self._lock:
            encoder = self._opened.get((name, lane))
            if encoder is None:
                thread = self._threads.setdefault(lane, ThreadPoolExecutor(1, thread_name_prefix=f"encoder-{lane}"))
                encoder = open_encoder(spec, self.settings, dim=dim, thread=thread, on_encoded=on_encoded)
                self._opened[name, lane] = encoder
        if encoder.dim != dim:
            raise Fatal(f"the vectors of {name!r} have {encoder.dim} dimensions, and those of the generation {dim}")
        return encoder

    def dimension(self, name: str) -> int:
        """Return the length of an embedder's vectors, by trying it; may take seconds, so not for the event loop.

        Raises:
            Fatal: as for `get`.
            Transient: its endpoint is away.
        """
        return asyncio.run(_tried(parse_embedder(name), self.settings))

    async def close(self) -> None:
        """Close all of them, and wait for the model that runs."""
        with self._lock:
            opened, threads = list(self._opened.values()), list(self._threads.values())
            self._opened.clear()
            self._threads.clear()
        await asyncio.gather(*(encoder.close() for encoder in opened))
        await asyncio.gather(*(asyncio.to_thread(thread.shutdown) for thread in threads))


def open_encoder(
    spec: EmbedderSpec,
    settings: EncoderSettings,
    *,
    dim: int | None = None,
    thread: Executor | None = None,
    on_encoded: OnEncoded = lambda n, seconds: None,
) -> Opened:
    """Open an encoder.

    Args:
        spec: of the embedder.
        settings: where models and endpoints are.
        dim: length that its vectors must have; None: any, and `dim` of an encoder that is elsewhere may be 0.
        thread: of one worker, in which a model of this process is called; None: one of its own.
        on_encoded: counts.

    Raises:
        Fatal: a part of it is missing.
    """
    if spec.kind == "openvino":
        return _openvino(spec, settings, thread, on_encoded)
    if dim is not None and spec.dimensions not in (None, dim):
        raise Fatal(f"the embedder {spec.name!r} does not have the {dim} dimensions of the generation")
    if spec.kind == "openai":
        return _whole_texts(spec, _openai(spec, settings, dim, on_encoded), dim or spec.dimensions or 0)
    embed = _sentence_transformers(spec, settings, thread, on_encoded)
    return _whole_texts(spec, embed, embed.dim)


async def _tried(spec: EmbedderSpec, settings: EncoderSettings) -> int:
    encoder = open_encoder(spec, settings)
    try:
        return int((await encoder.encode_query("How long is a vector?")).shape[1])
    except Unprocessable as error:
        raise Fatal(str(error)) from error
    finally:
        await encoder.close()


def _whole_texts(spec: EmbedderSpec, embed: Embedder, dim: int) -> WholeTexts:
    return WholeTexts(embed, name=spec.name, dim=dim, query_prefix=spec.query_prefix, chunk_prefix=spec.chunk_prefix)


def _openai(spec: EmbedderSpec, settings: EncoderSettings, dim: int | None, on_encoded: OnEncoded) -> OpenaiEmbedder:
    return OpenaiEmbedder(
        client=http_client(settings),
        model=spec.model,
        dim=dim or spec.dimensions,
        dimensions=spec.dimensions,
        batch_max=settings.embeddings_batch_max,
        batch_tokens=settings.embeddings_batch_tokens,
        input_tokens=settings.embeddings_input_tokens,
        at_once=settings.embeddings_concurrency,
        timeout_s=settings.embeddings_timeout_ms / 1000,
        on_encoded=on_encoded,
    )


def _sentence_transformers(
    spec: EmbedderSpec, settings: EncoderSettings, thread: Executor | None, on_encoded: OnEncoded
) -> "SentenceTransformersEmbedder":
    # here, because torch takes seconds and hundreds of megabytes, and is there only where the extra is installed
    from streams.adapters.sentence_transformers_embedder import SentenceTransformersEmbedder

    return SentenceTransformersEmbedder.load(
        spec.model,
        device=settings.encoder_device or None,
        threads=settings.encoder_threads,
        thread=thread,
        on_encoded=on_encoded,
    )


def _openvino(spec: EmbedderSpec, settings: EncoderSettings, thread: Executor | None, on_encoded: OnEncoded) -> Opened:
    # here, because the model's runtime costs time and memory, which workers without a model shall not pay
    from streams.adapters.openvino_encoder import OpenvinoEncoder

    return OpenvinoEncoder.load(
        settings.model_dir,
        precision=spec.precision,
        threads=settings.encoder_threads,
        thread=thread,
        on_encoded=on_encoded,
    )
