"""The chunker `structure`: cuts along headings, then along blocks, bounded in wordpieces of the embedder."""

from collections.abc import Iterator
from typing import Final

from semantic_text_splitter import MarkdownSplitter, TextSplitter
from tokenizers import Tokenizer

from streams.chunk.chunkers.bounds import (
    MARK_TOKENS,
    MAX_CHARS,
    MAX_TOKENS,
    bounded,
    n_tokens_of,
    not_too_many,
    slabs,
)
from streams.chunk.chunkers.sections import Section, fitting_path, sections
from streams.chunk.document import Document, Piece
from streams.text.sentences import Span, Syntax, clipped, sentence_spans, trimmed

TARGET_TOKENS: Final = 200

_LINES_MAX_TOKENS: Final = 64  # of heading lines that are kept whole with the text under them
_STEP_TOKENS: Final = 16  # what headings take is rounded up to this: a splitter costs megabytes, so there are few
_SLAB_CHARS: Final = 256 * 1024  # split at once, so that the bound on chunks is met early


class Structure:
    """Cuts documents into chunks of about 200 tokens, 256 at most, that never cross into another heading's section.

    Args:
        tokenizer: counts wordpieces, and neither cuts nor pads.
        size: wordpieces that a chunk is to have; those that it may have follow from it.
    """

    def __init__(self, tokenizer: Tokenizer, size: int = TARGET_TOKENS) -> None:
        self._tokenizer = tokenizer
        self._max_tokens = round(size * MAX_TOKENS / TARGET_TOKENS)
        self._splitters: dict[tuple[Syntax, int], MarkdownSplitter | TextSplitter] = {}

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
        text = document.text
        headings, n_path_tokens = fitting_path(self._tokenizer, section.headings)
        budget = min(MAX_TOKENS - n_path_tokens, self._max_tokens) - MARK_TOKENS
        sentences = list(sentence_spans(text, section.body, section.end, document.syntax))
        for span in self._spans(document, section, budget):
            for start, end, n_tokens in bounded(self._tokenizer, text, *span, budget):
                yield Piece(
                    start=start,
                    end=end,
                    headings=headings,
                    n_tokens=MARK_TOKENS + n_path_tokens + n_tokens,
                    sentences=clipped(sentences, start, end, text),
                )

    def _spans(self, document: Document, section: Section, budget: int) -> Iterator[Span]:
        """Yield what the chunks of a section are to be; a little over the bounds in rare cases."""
        text = document.text
        start, end = trimmed(text, section.start, section.end)
        if end - start <= MAX_CHARS and n_tokens_of(self._tokenizer, text[start:end]) <= budget:
            if start < end:
                yield start, end
            return
        body = section.body
        n_line_tokens = (
            n_tokens_of(self._tokenizer, text[section.start : body])
            if body - section.start <= MAX_CHARS
            else MAX_TOKENS
        )
        if n_line_tokens > min(_LINES_MAX_TOKENS, budget - _STEP_TOKENS):
            body, n_line_tokens = section.start, 0
        splitter = self._splitter(document.syntax, budget - n_line_tokens)
        first = True
        for slab_start, slab_end in slabs(text, body, section.end, _SLAB_CHARS):
            for offset, chunk in splitter.chunk_indices(text[slab_start:slab_end]):
                begin = slab_start + offset
                # Heading lines go with the first text under them: room was left for them.
                yield (start if first else begin), begin + len(chunk)
                first = False

    def _splitter(self, syntax: Syntax, budget: int) -> MarkdownSplitter | TextSplitter:
        capacity = budget - budget % _STEP_TOKENS
        made = self._splitters.get((syntax, capacity))
        if made is None:
            kind = MarkdownSplitter if syntax == "markdown" else TextSplitter
            bounds = (round(capacity * TARGET_TOKENS / MAX_TOKENS), capacity)
            made = self._splitters[syntax, capacity] = kind.from_huggingface_tokenizer(self._tokenizer, bounds)
        return made
