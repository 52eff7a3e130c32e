"""The chunker `sentences`: small chunks of whole sentences that stand under one heading."""

from collections.abc import Iterator, Sequence
from typing import Final

from tokenizers import Tokenizer

from streams.chunk.chunkers.bounds import (
    MARK_TOKENS,
    MAX_TOKENS,
    bounded,
    n_tokens_of,
    not_too_many,
)
from streams.chunk.chunkers.sections import Section, fitting_path, sections
from streams.chunk.document import Document, Piece
from streams.text.sentences import Span, clipped, sentence_spans

TARGET_TOKENS: Final = 96
"""Of the text of a chunk; a longer sentence is a chunk of its own."""
_COUNTED_MAX_CHARS: Final = 1_000  # a longer sentence is over the target anyhow


class Sentences:
    """Cuts documents into chunks of whole sentences, about 96 tokens together, that never cross into another heading's
    section.

    Args:
        tokenizer: counts wordpieces, and neither cuts nor pads.
        size: most wordpieces of the text of a chunk; a longer sentence is a chunk of its own.
    """

    def __init__(self, tokenizer: Tokenizer, size: int = TARGET_TOKENS) -> None:
        self._tokenizer = tokenizer
        self._size = size

    def __call__(self, document: Document) -> tuple[Piece, ...]:
        """Cut a document.

        Returns:
            Chunks in order of the text, without overlap; none where the document has no text.

        Raises:
            Unprocessable: `too_many_chunks`.
        """
        return not_too_many(
            document, (piece for section in sections(document) for piece in self._pieces(document, section))
        )

    def _pieces(self, document: Document, section: Section) -> Iterator[Piece]:
        headings, n_path_tokens = fitting_path(self._tokenizer, section.headings)
        sentences = list(sentence_spans(document.text, section.body, section.end, document.syntax))
        budget = MAX_TOKENS - MARK_TOKENS - n_path_tokens
        for span in self._spans(document.text, section, sentences):
            for start, end, n_tokens in bounded(self._tokenizer, document.text, *span, budget):
                yield Piece(
                    start=start,
                    end=end,
                    headings=headings,
                    n_tokens=MARK_TOKENS + n_path_tokens + n_tokens,
                    sentences=clipped(sentences, start, end, document.text),
                )

    def _spans(self, text: str, section: Section, sentences: Sequence[Span]) -> Iterator[Span]:
        """Yield the section in stretches that begin where a sentence does, the first one with the heading lines."""
        begin, held = section.start, 0
        for first, last in sentences:
            long = last - first > _COUNTED_MAX_CHARS
            n_tokens = self._size if long else n_tokens_of(self._tokenizer, text[first:last])
            if held and held + n_tokens > self._size:
                yield begin, first
                begin, held = first, 0
            held += n_tokens
        yield begin, section.end
