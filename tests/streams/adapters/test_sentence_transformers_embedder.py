"""How a model of sentence-transformers is called, on one that is made up: torch is not needed for it."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from streams.adapters.sentence_transformers_embedder import BATCH_CPU, BATCH_GPU, SentenceTransformersEmbedder


@dataclass
class _Device:
    type: str


@dataclass
class HalfModel:
    """Vectors of 16 bits that are not of length 1, and the batches that were asked for."""

    device: _Device
    batches: list[tuple[int, int]] = field(default_factory=list)

    def _encode(self, texts: list[str], *, batch_size: int, **_: Any) -> "np.ndarray[Any, Any]":
        self.batches.append((len(texts), batch_size))
        return np.array([[len(text), 1, 2] for text in texts], dtype=np.float16) / 3

    encode_query = encode_document = _encode


async def test_vectors_of_16_bits_are_normed_in_32() -> None:
    embedder = SentenceTransformersEmbedder(HalfModel(_Device("cpu")))

    vectors = await embedder(["a", "bb" * 100, "c" * 7], "chunk")

    assert vectors.dtype == np.float32
    assert (vectors.shape, embedder.dim) == ((3, 3), 3)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    await embedder.close()


@pytest.mark.parametrize(("device", "batch"), [("cpu", BATCH_CPU), ("cuda", BATCH_GPU)])
async def test_a_gpu_is_given_more_at_once(device: str, batch: int) -> None:
    model = HalfModel(_Device(device))
    embedder = SentenceTransformersEmbedder(model)
    model.batches.clear()

    await embedder(["word"] * (3 * batch), "chunk")

    assert model.batches == [(2 * batch, batch), (batch, batch)]
    await embedder.close()
