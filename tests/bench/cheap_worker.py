"""A worker whose vectors are random and cost next to nothing: for figures in which the encoder has no part."""

import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import fields

import numpy as np

from schemas.events import Chunk
from streams.__main__ import main
from streams.ports import Encoded, Vectors
from streams.runtime.stage import Stage
from streams.wiring import BUILDERS, Parts, embed


class RandomEncoder:
    """`Encoder` that gives each text one random direction, always the same."""

    def __init__(self, name: str, dim: int) -> None:
        self.name = name
        self.dim = dim

    async def encode_query(self, text: str) -> Vectors:
        """See `Encoder`."""
        return self._vectors([text])

    async def encode_chunks(self, chunks: Sequence[Chunk]) -> Encoded:
        """See `Encoder`."""
        sentences = [self._vectors([chunk.text[start:end] for start, end in chunk.sentences]) for chunk in chunks]
        return Encoded(chunks=self._vectors([chunk.text for chunk in chunks]), sentences=sentences)

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        rows = [np.random.default_rng(zlib.crc32(text.encode())).standard_normal(self.dim) for text in texts]
        vectors = np.array(rows, np.float32).reshape(len(rows), self.dim)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


class CheapParts(Parts):
    """Parts of a worker that loads no model."""

    def encoder(self, on_encoded: Callable[[int, float], None]) -> RandomEncoder:  # type: ignore[override]
        """Give random vectors of the generation's length."""
        return RandomEncoder(self.generation.embedder, self.generation.dim)


def cheap_embed(parts: Parts) -> Stage:
    """Build the embed stage of such a worker."""
    return embed(CheapParts(**{each.name: getattr(parts, each.name) for each in fields(parts)}))


if __name__ == "__main__":
    main(sys.argv[1:], builders={**BUILDERS, "embed": cheap_embed})
