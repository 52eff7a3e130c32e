"""An encoder that is loaded when it is first asked: a process that seldom needs one does not hold a model."""

import asyncio
from collections.abc import Callable, Sequence

from schemas.events import Chunk
from streams.ports import Encoded, Encoder, Vectors


class LazyEncoder:
    """`Encoder` that loads another one in a thread, once.

    Args:
        name: of the encoder that is loaded.
        dim: of it.
        load: returns it; may take seconds, and may be called again where it failed.
    """

    def __init__(self, *, name: str, dim: int, load: Callable[[], Encoder]) -> None:
        self.name = name
        self.dim = dim
        self._load = load
        self._encoder: Encoder | None = None
        self._lock = asyncio.Lock()

    async def encode_query(self, text: str) -> Vectors:
        """See `Encoder`."""
        return await (await self._loaded()).encode_query(text)

    async def encode_chunks(self, chunks: Sequence[Chunk]) -> Encoded:
        """See `Encoder`."""
        return await (await self._loaded()).encode_chunks(chunks)

    async def _loaded(self) -> Encoder:
        async with self._lock:
            if self._encoder is None:
                self._encoder = await asyncio.to_thread(self._load)
        return self._encoder
