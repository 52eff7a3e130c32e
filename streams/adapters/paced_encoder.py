"""An encoder that takes its time: a replay must leave some of the machine to live traffic."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from schemas.events import Chunk
from streams.ports import Encoded, Encoder, Vectors

AT_ONCE: Final = 32
"""Chunks between two looks at the clock."""


@dataclass(kw_only=True)
class PacedEncoder:
    """`Encoder` that encodes so many chunks a second at most, of all its callers together.

    Attributes:
        encoder: does the work.
        chunks_per_s: above 0.
        on_paced: called with the seconds for which each turn had to wait.
    """

    encoder: Encoder
    chunks_per_s: float
    on_paced: Callable[[float], None] = lambda seconds: None
    dim: int = field(init=False)
    name: str = field(init=False)
    _due: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.dim, self.name = self.encoder.dim, self.encoder.name

    async def encode_query(self, text: str) -> Vectors:
        """See `Encoder`; not paced."""
        return await self.encoder.encode_query(text)

    async def encode_chunks(self, chunks: Sequence[Chunk]) -> Encoded:
        """See `Encoder`."""
        if len(chunks) <= AT_ONCE:
            await self._turn(len(chunks))
            return await self.encoder.encode_chunks(chunks)
        vectors: list[Vectors] = []
        sentences: list[Vectors] = []
        for begin in range(0, len(chunks), AT_ONCE):
            some = chunks[begin : begin + AT_ONCE]
            await self._turn(len(some))
            encoded = await self.encoder.encode_chunks(some)
            vectors.append(encoded.chunks)
            sentences += encoded.sentences
        return Encoded(chunks=np.concatenate(vectors), sentences=sentences)

    async def _turn(self, n: int) -> None:
        """Wait until `n` more are due."""
        now = time.monotonic()
        due = max(self._due, now)
        self._due = due + n / self.chunks_per_s
        self.on_paced(due - now)
        await asyncio.sleep(due - now)
