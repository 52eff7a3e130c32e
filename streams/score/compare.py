"""How well a sentence is supported by passages: said by them word for word, else alike in meaning and in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from streams.ports import Passage, Vectors
from streams.score.said import Said
from streams.text.words import spoken, words

SUPPORTED_MIN: Final = 0.6
"""Support from which on a sentence counts as supported; chosen on open halves: `python -m tests.bench.scores`."""


@dataclass(frozen=True)
class Source:
    """A passage, prepared for many comparisons."""

    passage: Passage

    @cached_property
    def spoken(self) -> str:
        """The text as `spoken` gives it."""
        return spoken(self.passage.text)

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of the text and of the titles above it."""
        passage = self.passage
        return frozenset(words(" ".join((passage.title or "", *passage.headings, passage.text))))


@dataclass(frozen=True, slots=True)
class Comparison:
    """A sentence of an answer and the passages, at least one, that it is to be found in."""

    said: Said
    sources: Sequence[Source]

    @property
    def verbatim(self) -> bool:
        """Whether a passage says this word for word; case, white space and punctuation do not count."""
        phrase = spoken(self.said.text)
        return any(phrase in source.spoken for source in self.sources)

    def support(self, vector: Vectors) -> float:
        """Rate a sentence that no passage says word for word, from 0 to 1.

        It is the mean of two things: the largest cosine of the sentence and a sentence of the passages, and the share
        of its words that the passages hold. Neither alone tells a supported sentence from one on the same subject.

        Args:
            vector: of the sentence, shape (dim,).
        """
        found = [source.passage.sentence_vectors @ vector for source in self.sources]
        cosine = float(np.concatenate(found).max(initial=0.0))
        held = frozenset().union(*(source.words for source in self.sources))
        asked = words(self.said.text)
        covered = sum(word in held for word in asked) / len(asked)
        return min(1.0, (cosine + covered) / 2)
