"""An encoder of bags of words: texts that share words have near vectors."""

import hashlib
import re
from collections.abc import Sequence

import numpy as np

from schemas.events import Chunk
from streams.ports import Encoded, Vectors


class HashingEncoder:
    """`Encoder` that hashes each word to a direction; remembers how many chunks it was asked for."""

    name = "hashing"

    def __init__(self, dim: int = 64) -> None:
        self.dim = dim
        self.n_chunks = 0

    async def encode_query(self, text: str) -> Vectors:
        return self._vectors([text])

    async def encode_chunks(self, chunks: Sequence[Chunk]) -> Encoded:
        self.n_chunks += len(chunks)
        whole = self._vectors([" ".join([*chunk.headings, chunk.text]) for chunk in chunks])
        sentences = [self._vectors([chunk.text[start:end] for start, end in chunk.sentences]) for chunk in chunks]
        return Encoded(chunks=whole, sentences=sentences)

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()) or [""]:
                seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
                vectors[row] += np.random.default_rng(seed).standard_normal(self.dim, np.float32)
            vectors[row] /= np.linalg.norm(vectors[row])
        return vectors
