"""`Encoder` over what turns whole texts into vectors, and gives none of their tokens."""

from collections.abc import Sequence
from typing import Final, Literal, Protocol

import numpy as np

from schemas.events import Chunk
from streams.ports import Encoded, Vectors

Role = Literal["query", "chunk"]

_EMPTY: Final = " "
"""Sent in place of a text of nothing, which some models refuse."""


class Embedder(Protocol):
    """Turns texts into vectors."""

    async def __call__(self, texts: Sequence[str], role: Role, /) -> Vectors:
        """Embed texts, none of them empty, keeping their order; n >= 1. Longer than the model's window: the tail is
        dropped.

        Returns:
            Shape (n, dim).

        Raises:
            Transient: the model is overloaded or out of reach.
        """
        ...

    async def close(self) -> None:
        """Give back what it holds; texts that wait get CancelledError."""
        ...


class WholeTexts:
    """`Encoder` that embeds each sentence as a text of its own: all sentences of a chunk together cost about as much
    as the chunk.

    What occurs twice in a call is embedded once.

    Args:
        embed: turns texts into vectors.
        name: of the embedder.
        dim: length of its vectors; 0: not known yet.
        query_prefix: put before each question.
        chunk_prefix: put before each chunk and each sentence.
    """

    def __init__(self, embed: Embedder, *, name: str, dim: int, query_prefix: str = "", chunk_prefix: str = "") -> None:
        self.name = name
        self.dim = dim
        self._embed = embed
        self._query_prefix = query_prefix
        self._chunk_prefix = chunk_prefix

    async def encode_query(self, text: str) -> Vectors:
        """See `Encoder`."""
        return await self._embed([self._query_prefix + text or _EMPTY], "query")

    async def encode_chunks(self, chunks: Sequence[Chunk]) -> Encoded:
        """See `Encoder`. A sentence bears no heading path: it is compared with questions by what it says itself."""
        whole = [heading_line(chunk) + chunk.text for chunk in chunks]
        sentences = [[chunk.text[start:end] for start, end in chunk.sentences] for chunk in chunks]
        places: dict[str, int] = {}
        for text in (*whole, *(sentence for of_chunk in sentences for sentence in of_chunk)):
            places.setdefault(text, len(places))
        vectors = np.empty((0, self.dim), np.float32)
        if places:
            vectors = await self._embed([self._chunk_prefix + text or _EMPTY for text in places], "chunk")
        return Encoded(
            chunks=vectors[[places[text] for text in whole]],
            sentences=[vectors[[places[sentence] for sentence in of_chunk]] for of_chunk in sentences],
        )

    async def close(self) -> None:
        """Close what embeds."""
        await self._embed.close()


def heading_line(chunk: Chunk) -> str:
    """Return the heading path of a chunk as it stands before its text; empty where there is none."""
    return " > ".join(chunk.headings) + "\n" if chunk.headings else ""
