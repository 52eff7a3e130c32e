"""Any model that sentence-transformers can load, on whatever torch finds; needs the extra `torch`."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Final

import numpy as np
import structlog

from streams.adapters.rounds import Rounds
from streams.adapters.whole_texts import Role
from streams.errors import Fatal
from streams.ports import Vectors

CHUNK_TOKENS: Final = 256
"""Of the longest chunk, in the wordpieces that chunkers count."""

BATCH_CPU: Final = 32
BATCH_GPU: Final = 256
"""Texts that a model is given at once: a GPU waits for its orders more than it computes where they are few."""

_log = structlog.get_logger(__name__)


class SentenceTransformersEmbedder:
    """`Embedder` on torch; callers at the same time share batches.

    What a model's own configuration puts before questions and passages is put there as well.

    Args:
        model: a `SentenceTransformer`.
        thread: of one worker, in which it is called; None: one of its own.
        on_encoded: called with (number of texts, seconds) after each batch, in that thread.
    """

    def __init__(
        self,
        model: Any,
        *,
        thread: Executor | None = None,
        on_encoded: Callable[[int, float], None] = lambda n, seconds: None,
    ) -> None:
        self._model = model
        self._on_encoded = on_encoded
        on_cpu = getattr(getattr(model, "device", None), "type", "cpu") == "cpu"
        self._batch = BATCH_CPU if on_cpu else BATCH_GPU
        self._rounds = Rounds[tuple[Role, str], Vectors](work=self._round, thread=thread, size=2 * self._batch)
        self.dim = int(self._encoded(["How long is a vector?"], "query").shape[1])

    @classmethod
    def load(
        cls,
        model: str,
        *,
        device: str | None = None,
        threads: int = 0,
        thread: Executor | None = None,
        on_encoded: Callable[[int, float], None] = lambda n, seconds: None,
    ) -> "SentenceTransformersEmbedder":
        """Load a model.

        Args:
            model: a folder, or a name at the hub, from where it is downloaded unless it was before. No code that comes
                with it is run.
            device: as `cpu` or `cuda`; None: the best there is.
            threads: of torch in this process; 0: as torch chooses.
            thread: see the class.
            on_encoded: see the class.

        Raises:
            Fatal: the extra is not installed, or there is no such model.
        """
        try:
            import torch
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise Fatal(
                f"an embedder of the kind 'sentence-transformers' needs the extra `torch`: `pip install "
                f"'headrace[torch]'` ({error})"
            ) from error
        if threads:
            torch.set_num_threads(threads)
        try:
            loaded = SentenceTransformer(model, device=device)
            window = loaded.max_seq_length
            if window is not None and window < CHUNK_TOKENS:
                _log.warning("embedder_window_is_short", model=model, window_tokens=window, chunk_tokens=CHUNK_TOKENS)
            return cls(loaded, thread=thread, on_encoded=on_encoded)
        except Exception as error:  # the libraries raise whatever their parts do
            why = " ".join(str(error).split())[:300]
            raise Fatal(
                f"sentence-transformers cannot load {model!r}: {why}; expected a folder, or the name of a model"
            ) from error

    async def __call__(self, texts: Sequence[str], role: Role, /) -> Vectors:
        """See `Embedder`."""
        return np.stack(await self._rounds.do([(role, text) for text in texts]))

    async def close(self) -> None:
        """Texts that wait get CancelledError."""
        await self._rounds.close()

    def _round(self, texts: Sequence[tuple[Role, str]]) -> Sequence[Vectors]:
        vectors: dict[int, Vectors] = {}
        for role in ("query", "chunk"):
            places = [place for place, (of, _) in enumerate(texts) if of == role]
            if places:
                begun = time.perf_counter()
                vectors.update(zip(places, self._encoded([texts[place][1] for place in places], role), strict=True))
                self._on_encoded(len(places), time.perf_counter() - begun)
        return [vectors[place] for place in range(len(texts))]

    def _encoded(self, texts: list[str], role: Role) -> Vectors:
        encode = self._model.encode_query if role == "query" else self._model.encode_document
        made: Vectors = encode(texts, batch_size=self._batch, convert_to_numpy=True, show_progress_bar=False)
        vectors = made.astype(np.float32)
        # here, because a model whose weights are of 16 bits would norm them in 16 bits
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return vectors
