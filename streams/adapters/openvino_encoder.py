"""The encoder all-MiniLM-L6-v2 on OpenVINO, in one of three precisions; English only.

Sentence vectors come out of the chunk's own forward pass: the last hidden states are averaged over the tokens of each
sentence ("late chunking", Günther et al., 2024), so sentences cost no second pass.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import openvino as ov
from tokenizers import Tokenizer

from schemas.events import Chunk
from streams.adapters.embedder_spec import MINILM
from streams.adapters.minilm_graph import build, load_weights
from streams.adapters.rounds import Rounds
from streams.adapters.whole_texts import heading_line
from streams.errors import Fatal
from streams.ports import Encoded, Vectors

MAX_TOKENS: Final = 256
BATCH: Final = 16
GROUP: Final = 32
"""Values that share a scale where int8 flows."""

Spans = Sequence[tuple[int, int]]


_Text = tuple[str, Spans]
"""A text to embed, and the sentences in it, in code points."""
_Made = tuple[Vectors, Vectors]
"""Vector of a text, shape (1, dim), and of its sentences, shape (n, dim)."""


class OpenvinoEncoder:
    """`Encoder` on OpenVINO; callers at the same time share batches.

    Args:
        model: compiled model of `minilm_graph.build`.
        tokenizer: of the model.
        name: of the embedder.
        thread: of one worker, in which the model is called; None: one of its own.
        on_encoded: called with (number of texts, seconds) after each batch, in that thread.
    """

    dim = 384

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        *,
        name: str = MINILM,
        thread: Executor | None = None,
        on_encoded: Callable[[int, float], None] = lambda n, seconds: None,
    ) -> None:
        self.name = name
        self._model = model
        self._tokenizer = tokenizer
        self._on_encoded = on_encoded
        self._rounds = Rounds[_Text, _Made](work=self._round, thread=thread)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        precision: str = "f32",
        threads: int = 0,
        thread: Executor | None = None,
        on_encoded: Callable[[int, float], None] = lambda n, seconds: None,
    ) -> "OpenvinoEncoder":
        """Load `model.safetensors` and `tokenizer.json`.

        Args:
            folder: where they are.
            precision: `f32`; `bf16`, which needs a CPU that computes in it; `int8`: weights of 8 bits, and 8 bits for
                what flows between them where the CPU can (VNNI).
            threads: of the model; 0: one per core.
            thread: see the class.
            on_encoded: see the class.

        Raises:
            Fatal: a file is missing or not the expected one, or the CPU lacks what the precision needs.
        """
        # OpenVINO gives the thread in which it is loaded another signal stack, and unmaps it in whatever thread drops
        # the model last: the next signal then ends the process. So it is loaded in a thread that is no more after that.
        with ThreadPoolExecutor(1, thread_name_prefix="encoder-loading") as loading:
            model = loading.submit(_compiled, folder / "model.safetensors", precision, threads).result()
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises plain Exception
            raise Fatal(f"cannot read the encoder's tokenizer: {error}; `make setup` fetches it") from error
        tokenizer.enable_truncation(MAX_TOKENS)
        tokenizer.no_padding()
        name = MINILM if precision == "f32" else f"{MINILM}@{precision}"
        return cls(model, tokenizer, name=name, thread=thread, on_encoded=on_encoded)

    async def encode_query(self, text: str) -> Vectors:
        """See `Encoder`. Questions that arrive while the model is busy go into one batch."""
        vectors = await self._rounds.do([(text, ())])
        return vectors[0][0]

    async def encode_chunks(self, chunks: Sequence[Chunk]) -> Encoded:
        """See `Encoder`. What is embedded is the heading path and the text, as is covered by the chunk's id."""
        encoded = await self._rounds.do([_with_headings(chunk) for chunk in chunks])
        vectors = np.concatenate([vector for vector, _ in encoded]) if encoded else np.empty((0, self.dim), np.float32)
        return Encoded(chunks=vectors, sentences=[sentences for _, sentences in encoded])

    async def close(self) -> None:
        """Texts that wait get CancelledError."""
        await self._rounds.close()

    def _round(self, texts: Sequence[_Text]) -> list[_Made]:
        encodings = self._tokenizer.encode_batch([text for text, _ in texts])
        order = sorted(range(len(texts)), key=lambda i: -len(encodings[i].ids))
        results: dict[int, _Made] = {}
        for start in range(0, len(order), BATCH):
            begun = time.perf_counter()
            batch = order[start : start + BATCH]
            embeddings, states = self._forward([encodings[i] for i in batch])
            for row, i in enumerate(batch):
                vector = embeddings[row : row + 1]
                results[i] = vector, _sentences(states[row], vector[0], encodings[i].offsets, texts[i][1])
            self._on_encoded(len(batch), time.perf_counter() - begun)
        return [results[i] for i in range(len(texts))]

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


def _with_headings(chunk: Chunk) -> _Text:
    """Return what the model reads, and the sentences in it."""
    prefix = heading_line(chunk)
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


def _compiled(weights: Path, precision: str, threads: int) -> Any:
    core = ov.Core()
    if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise Fatal(f"this CPU does not compute in bf16; choose {MINILM!r} or {MINILM + '@int8'!r}")
    model = build(load_weights(weights), int8=precision == "int8")
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": GROUP if precision == "int8" else 0,
        "INFERENCE_NUM_THREADS": threads or os.cpu_count() or 1,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
    }
    return core.compile_model(model, "CPU", options)
