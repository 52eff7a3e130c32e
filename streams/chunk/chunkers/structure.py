"""The chunker `structure`: cuts along headings, then along blocks, bounded in wordpieces of the embedder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from semantic_text_splitter import MarkdownSplitter, TextSplitter
from tokenizers import Tokenizer

from streams.chunk.chunkers.sections import Section, fitting_path, sections
from streams.chunk.document import Document, Piece
from streams.errors import Unprocessable
from streams.text.sentences import Span, Syntax, clipped, sentence_spans, trimmed

TARGET_TOKENS: Final = 200
MAX_TOKENS: Final = 256
"""Of a chunk: its heading path and its text, with the marks that the model puts around them."""
MAX_CHARS: Final = 4_000
"""Of a chunk: white space and words that the model does not know cost few tokens or none, however long they are."""
CHUNKS_MAX: Final = 20_000

_MARK_TOKENS: Final = 2  # [CLS] and [SEP]
_LINES_MAX_TOKENS: Final = 64  # of heading lines that are kept whole with the text under them
_STEP_TOKENS: Final = 16  # what headings take is rounded up to this: a splitter costs megabytes, so there are few
_SLAB_CHARS: Final = 256 * 1024  # split at once, so that the bound on chunks is met early
_COUNTED_ON: Final = 200  # chunks that are still counted past the bound, for an estimate of how many there are


class Structure:
    """Cuts documents into chunks of about 200 tokens, 256 at most, that never cross into another heading's section.

    Args:
        tokenizer_file: `tokenizer.json` of the embedder.
    """

    def __init__(self, tokenizer_file: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer_file))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._splitters: dict[tuple[Syntax, int], MarkdownSplitter | TextSplitter] = {}

    def __call__(self, document: Document) -> tuple[Piece, ...]:
        """Cut a document.

        Returns:
            Chunks in order of the text, without overlap; none where the document has no text.

        Raises:
            Unprocessable: `too_many_chunks`.
        """
        pieces: list[Piece] = []
        for section in sections(document):
            for piece in self._pieces(document, section):
                pieces.append(piece)
                if len(pieces) > CHUNKS_MAX + _COUNTED_ON:
                    raise _too_many(document, pieces)
        if len(pieces) > CHUNKS_MAX:
            raise _too_many(document, pieces)
        return tuple(pieces)

    def _pieces(self, document: Document, section: Section) -> Iterator[Piece]:
        text = document.text
        headings, n_path_tokens = fitting_path(self._tokenizer, section.headings)
        budget = MAX_TOKENS - _MARK_TOKENS - n_path_tokens
        sentences = list(sentence_spans(text, section.body, section.end, document.syntax))
        for span in self._spans(document, section, budget):
            for start, end, n_tokens in self._bounded(text, *span, budget):
                yield Piece(
                    start=start,
                    end=end,
                    headings=headings,
                    n_tokens=_MARK_TOKENS + n_path_tokens + n_tokens,
                    sentences=clipped(sentences, start, end, text),
                )

    def _spans(self, document: Document, section: Section, budget: int) -> Iterator[Span]:
        """Yield what the chunks of a section are to be; a little over the bounds in rare cases."""
        text = document.text
        start, end = trimmed(text, section.start, section.end)
        if end - start <= MAX_CHARS and self._n_tokens(text[start:end]) <= budget:
            if start < end:
                yield start, end
            return
        body = section.body
        n_line_tokens = self._n_tokens(text[section.start : body]) if body - section.start <= MAX_CHARS else MAX_TOKENS
        if n_line_tokens > _LINES_MAX_TOKENS:
            body, n_line_tokens = section.start, 0
        splitter = self._splitter(document.syntax, budget - n_line_tokens)
        first = True
        for slab_start, slab_end in _slabs(text, body, section.end):
            for offset, chunk in splitter.chunk_indices(text[slab_start:slab_end]):
                begin = slab_start + offset
                # Heading lines go with the first text under them: room was left for them.
                yield (start if first else begin), begin + len(chunk)
                first = False

    def _bounded(self, text: str, start: int, end: int, budget: int) -> Iterator[tuple[int, int, int]]:
        """Yield the stretch with its tokens; in halves, where it breaks a bound."""
        start, end = trimmed(text, start, end)
        if start == end:
            return
        n_tokens = self._n_tokens(text[start:end]) if end - start <= MAX_CHARS else budget + 1
        if n_tokens <= budget or end - start == 1:
            yield start, end, n_tokens
            return
        middle = _near_space(text, start, end)
        yield from self._bounded(text, start, middle, budget)
        yield from self._bounded(text, middle, end, budget)

    def _splitter(self, syntax: Syntax, budget: int) -> MarkdownSplitter | TextSplitter:
        capacity = budget - budget % _STEP_TOKENS
        made = self._splitters.get((syntax, capacity))
        if made is None:
            kind = MarkdownSplitter if syntax == "markdown" else TextSplitter
            bounds = (round(capacity * TARGET_TOKENS / MAX_TOKENS), capacity)
            made = self._splitters[syntax, capacity] = kind.from_huggingface_tokenizer(self._tokenizer, bounds)
        return made

    def _n_tokens(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _slabs(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield a stretch in parts of bounded length, cut between paragraphs, else between lines."""
    while end - start > _SLAB_CHARS:
        bound = start + _SLAB_CHARS
        cut = max(
            text.rfind("\n\n", start + _SLAB_CHARS // 2, bound), text.rfind("\n", bound - _SLAB_CHARS // 8, bound)
        )
        stop = cut + 1 if cut >= 0 else bound
        yield start, stop
        start = stop
    yield start, end


def _near_space(text: str, start: int, end: int) -> int:
    """Return where to halve a stretch of two characters or more: at the last space before its middle, else there."""
    middle = (start + end) // 2
    space = text.rfind(" ", start + (middle - start) // 2, middle)
    return space if space > start else middle


def _too_many(document: Document, pieces: list[Piece]) -> Unprocessable:
    n_chunks = round(len(pieces) * len(document.text.rstrip()) / pieces[-1].end)
    return Unprocessable(
        "too_many_chunks",
        f"the document makes {n_chunks:,} chunks or about that; expected at most {CHUNKS_MAX:,}: split the document",
    )
