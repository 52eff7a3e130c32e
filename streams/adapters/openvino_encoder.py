"""The encoder all-MiniLM-L6-v2 on OpenVINO, in float32; English only.

Sentence vectors come out of the chunk's own forward pass: the last hidden states are averaged over the tokens of each
sentence ("late chunking", Günther et al., 2024), so sentences cost no second pass.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino as ov
from tokenizers import Tokenizer

from schemas.events import Chunk
from streams.adapters.minilm_graph import build, load_weights
from streams.errors import Fatal
from streams.ports import Encoded, Vectors

MAX_TOKENS: Final = 256
BATCH: Final = 16
ROUND: Final = 64
"""Texts that are sorted by length together: enough to fill batches evenly, few enough that nobody waits long."""

Spans = Sequence[tuple[int, int]]


@dataclass(slots=True)
class _Item:
    """One text to embed. `spans` are the sentences in it, in code points."""

    text: str
    spans: Spans
    done: "asyncio.Future[tuple[Vectors, Vectors]]"


class OpenvinoEncoder:
    """`Encoder` on OpenVINO; callers at the same time share batches.

    Args:
        model: compiled model of `minilm_graph.build`.
        tokenizer: of the model.
        on_encoded: called with (number of texts, seconds) after each batch, in the encoder's thread.
    """

    dim = 384
    name = "all-MiniLM-L6-v2"

    def __init__(
        self, model: Any, tokenizer: Tokenizer, on_encoded: Callable[[int, float], None] = lambda n, seconds: None
    ) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._on_encoded = on_encoded
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encoder")
        self._waiting: list[_Item] = []
        self._rounds: asyncio.Task[None] | None = None

    @classmethod
    def load(
        cls, folder: Path, *, threads: int = 0, on_encoded: Callable[[int, float], None] = lambda n, seconds: None
    ) -> "OpenvinoEncoder":
        """Load `model.safetensors` and `tokenizer.json`.

        Args:
            folder: where they are.
            threads: of the model; 0: one per core.
            on_encoded: see the class.

        Raises:
            Fatal: a file is missing or not the expected one.
        """
        model = build(load_weights(folder / "model.safetensors"))
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises plain Exception
            raise Fatal(f"cannot read the encoder's tokenizer: {error}; `make setup` fetches it") from error
        tokenizer.enable_truncation(MAX_TOKENS)
        tokenizer.no_padding()
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads or os.cpu_count() or 1,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
        }
        return cls(ov.Core().compile_model(model, "CPU", options), tokenizer, on_encoded)

    async def encode_query(self, text: str) -> Vectors:
        """See `Encoder`. Questions that arrive while the model is busy go into one batch."""
        vectors = await self._encode([(text, ())])
        return vectors[0][0]

    async def encode_chunks(self, chunks: Sequence[Chunk]) -> Encoded:
        """See `Encoder`. What is embedded is the heading path and the text, as is covered by the chunk's id."""
        encoded: list[tuple[Vectors, Vectors]] = []
        for start in range(0, len(chunks), ROUND):
            encoded += await self._encode([_with_headings(chunk) for chunk in chunks[start : start + ROUND]])
        vectors = np.concatenate([vector for vector, _ in encoded]) if encoded else np.empty((0, self.dim), np.float32)
        return Encoded(chunks=vectors, sentences=[sentences for _, sentences in encoded])

    async def close(self) -> None:
        """Let the round that runs end; texts that wait get CancelledError."""
        if self._rounds is not None:
            self._rounds.cancel()
        for item in self._waiting:
            item.done.cancel()
        await asyncio.to_thread(self._thread.shutdown)

    async def _encode(self, texts: Sequence[tuple[str, Spans]]) -> list[tuple[Vectors, Vectors]]:
        loop = asyncio.get_running_loop()
        items = [_Item(text, spans, loop.create_future()) for text, spans in texts]
        self._waiting += items
        if self._rounds is None or self._rounds.done():
            self._rounds = loop.create_task(self._work())
        return list(await asyncio.gather(*(item.done for item in items)))

    async def _work(self) -> None:
        """Embed what waits, a round at a time, until nothing waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            items = [item for item in self._waiting[:ROUND] if not item.done.done()]
            del self._waiting[:ROUND]
            try:
                vectors = await loop.run_in_executor(self._thread, self._round, items)
            except Exception as error:
                for item in items:
                    if not item.done.done():
                        item.done.set_exception(error)
                continue
            for item, vector in zip(items, vectors, strict=True):
                if not item.done.done():
                    item.done.set_result(vector)

    def _round(self, items: Sequence[_Item]) -> list[tuple[Vectors, Vectors]]:
        encodings = self._tokenizer.encode_batch([item.text for item in items])
        order = sorted(range(len(items)), key=lambda i: -len(encodings[i].ids))
        results: dict[int, tuple[Vectors, Vectors]] = {}
        for start in range(0, len(order), BATCH):
            begun = time.perf_counter()
            batch = order[start : start + BATCH]
            embeddings, states = self._forward([encodings[i] for i in batch])
            for row, i in enumerate(batch):
                vector = embeddings[row : row + 1]
                results[i] = vector, _sentences(states[row], vector[0], encodings[i].offsets, items[i].spans)
            self._on_encoded(len(batch), time.perf_counter() - begun)
        return [results[i] for i in range(len(items))]

    def _forward(self, encodings: Sequence[Any]) -> tuple[Vectors, Vectors]:
        """Run the model on one batch, the longest text first; the results are copies."""
        length = len(encodings[0].ids)
        ids = np.zeros((len(encodings), length), np.int64)
        mask = np.zeros_like(ids)
        for row, encoding in enumerate(encodings):
            n = len(encoding.ids)
            ids[row, :n], mask[row, :n] = encoding.ids, 1
        result = self._model({"input_ids": ids, "attention_mask": mask})
        return np.array(result["embedding"]), np.asarray(result["states"])


def _with_headings(chunk: Chunk) -> tuple[str, Spans]:
    """Return what the model reads, and the sentences in it."""
    if not chunk.headings:
        return chunk.text, chunk.sentences
    prefix = " > ".join(chunk.headings) + "\n"
    return prefix + chunk.text, [(len(prefix) + start, len(prefix) + end) for start, end in chunk.sentences]


def _sentences(states: Vectors, whole: Vectors, offsets: Sequence[tuple[int, int]], spans: Spans) -> Vectors:
    """Average the states of each sentence's tokens; shape (n_spans, dim), L2-normalised.

    A sentence without a token (beyond the model's window) gets the vector of the whole chunk.
    """
    vectors = np.tile(whole, (len(spans), 1))
    if not spans:
        return vectors
    starts, ends = np.array(offsets).T
    for row, (start, end) in enumerate(spans):
        inside = np.flatnonzero((starts >= start) & (ends <= end) & (ends > starts))
        if inside.size:
            mean = states[inside].mean(axis=0)
            vectors[row] = mean / max(float(np.linalg.norm(mean)), 1e-9)
    return vectors
