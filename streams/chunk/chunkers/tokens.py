"""The chunker `tokens`: windows of a fixed number of wordpieces, blind to headings; what other chunkers must beat."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from tokenizers import Tokenizer

from streams.chunk.chunkers.bounds import MARK_TOKENS, MAX_TOKENS, bounded, not_too_many, slabs
from streams.chunk.chunkers.sections import Section, fitting_path, sections
from streams.chunk.document import Document, Piece
from streams.text.sentences import Span, clipped, sentence_spans

WINDOW_TOKENS: Final = 160
"""Of the text of a chunk; with the longest heading path it is within the bound."""
_SLAB_CHARS: Final = 64 * 1024  # encoded at once


class Tokens:
    """Cuts documents into windows of 160 wordpieces, at the beginning of a word; pages are cut each for itself.

    A chunk bears the heading path of the section in which it begins.

    Args:
        tokenizer: counts wordpieces, and neither cuts nor pads.
        size: wordpieces of the text of a chunk; with the longest heading path 190 are within the bound.
    """

    def __init__(self, tokenizer: Tokenizer, size: int = WINDOW_TOKENS) -> None:
        self._tokenizer = tokenizer
        self._size = size

    def __call__(self, document: Document) -> tuple[Piece, ...]:
        """Cut a document.

        Returns:
            Chunks in order of the text, without overlap; none where the document has no text.

        Raises:
            Unprocessable: `too_many_chunks`.
        """
        return not_too_many(document, self._pieces(document))

    def _pieces(self, document: Document) -> Iterator[Piece]:
        text = document.text
        under = list(sections(document))
        starts = [section.start for section in under]
        sentences = list(_sentences(document, under))
        for span in self._windows(document) if under else ():
            section = under[bisect_right(starts, span[0]) - 1]
            headings, n_path_tokens = fitting_path(self._tokenizer, section.headings)
            budget = MAX_TOKENS - MARK_TOKENS - n_path_tokens
            for start, end, n_tokens in bounded(self._tokenizer, text, *span, budget):
                yield Piece(
                    start=start,
                    end=end,
                    headings=headings,
                    n_tokens=MARK_TOKENS + n_path_tokens + n_tokens,
                    sentences=clipped(sentences, start, end, text),
                )

    def _windows(self, document: Document) -> Iterator[Span]:
        text, pages = document.text, document.pages or (0,)
        for page, page_end in zip(pages, [*pages[1:], len(text)], strict=True):
            for start, end in slabs(text, page, page_end, _SLAB_CHARS):
                places = [start, *(start + cut for cut in self._cuts(text[start:end])), end]
                yield from pairwise(places)

    def _cuts(self, text: str) -> list[int]:
        """Return where windows of a stretch begin, but for the first."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        words, offsets = encoding.word_ids, encoding.offsets
        cuts: list[int] = []
        begin = 0
        for number in range(1, len(words)):
            if number - begin >= self._size and words[number] != words[number - 1]:
                cuts.append(offsets[number][0])
                begin = number
        return cuts


def _sentences(document: Document, under: Sequence[Section]) -> Iterator[Span]:
    for section in under:
        yield from sentence_spans(document.text, section.body, section.end, document.syntax)
