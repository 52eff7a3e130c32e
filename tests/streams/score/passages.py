"""Passages, results and an encoder with known vectors, for tests of scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from schemas.events import Answer, Chunk, Citation, Hit, QueryFinished, Usage
from schemas.ids import ChunkId
from streams.ports import Encoded, Passage, Vectors

EAST = (1.0, 0.0)
NORTH = (0.0, 1.0)
NORTH_EAST = (0.6, 0.8)


def passage(chunk: str, *sentences: tuple[str, tuple[float, float]], **fields: Any) -> Passage:
    """Join (sentence, vector) pairs by spaces."""
    text, spans = "", []
    for sentence, _ in sentences:
        text += " " if text else ""
        spans.append((len(text), len(text) + len(sentence)))
        text += sentence
    values: dict[str, Any] = {
        "chunk": ChunkId(chunk),
        "document": "guide",
        "version": 1,
        "ordinal": 0,
        "text": text,
        "start": 0,
        "end": len(text),
        "headings": [],
        "sentences": spans,
        "sentence_vectors": np.array([vector for _, vector in sentences], np.float32).reshape(-1, 2),
    }
    return Passage(**(values | fields))


def by_chunk(*passages: Passage) -> dict[ChunkId, Passage]:
    return {one.chunk: one for one in passages}


def hit(chunk: str, *sentence_scores: float) -> Hit:
    return Hit(document="guide", version=1, chunk=chunk, score=0.5, sentence_scores=list(sentence_scores))


def cited(marker: int, chunk: str, quote: str = "") -> Citation:
    return Citation(marker=marker, document="guide", chunk=chunk, quote=quote, start=0, end=len(quote))


def finished(answer: Answer | None, *hits: Hit, **fields: Any) -> QueryFinished:
    values: dict[str, Any] = {
        "query": "0197a0c0-0000-7000-8000-000000000001",
        "tenant": "acme",
        "text": "What is the gate made of?",
        "outcome": "done",
        "attempt": 1,
        "generation": "g1",
        "reply_partition": 3,
        "asked_ms": 1_000,
        "finished_ms": 1_500,
        "hits": list(hits),
        "answer": answer,
    }
    return QueryFinished(**(values | fields))


def written(text: str, *citations: Citation) -> Answer:
    """An answer by a model."""
    return Answer(text=text, citations=list(citations), provider="openai", usage=Usage(model="m"))


class KnownEncoder:
    """`Encoder` of the texts that a test names; remembers what it was asked for."""

    name = "known"
    dim = 2

    def __init__(self, vectors: Mapping[str, tuple[float, float]] | None = None) -> None:
        self.asked: list[str] = []
        self._known = vectors or {}

    async def encode_query(self, text: str) -> Vectors:
        return self._vectors([text])

    async def encode_chunks(self, chunks: Sequence[Chunk]) -> Encoded:
        vectors = self._vectors([chunk.text for chunk in chunks])
        return Encoded(chunks=vectors, sentences=[np.empty((0, 2), np.float32) for _ in chunks])

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        self.asked += texts
        return np.array([self._known[text] for text in texts], np.float32)
