"""The bounds that every chunker keeps, in wordpieces of the embedder, and how a stretch that breaks them is halved."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer

from streams.chunk.document import Document, Piece
from streams.errors import Unprocessable
from streams.text.sentences import Span, trimmed

MAX_TOKENS: Final = 256
"""Of a chunk: its heading path and its text, with the marks that the model puts around them."""
MAX_CHARS: Final = 4_000
"""Of a chunk: white space and words that the model does not know cost few tokens or none, however long they are."""
CHUNKS_MAX: Final = 20_000
MARK_TOKENS: Final = 2
"""[CLS] and [SEP]."""

_COUNTED_ON: Final = 200  # chunks that are still counted past the bound, for an estimate of how many there are


def whole_tokenizer(file: Path) -> Tokenizer:
    """Load a `tokenizer.json` so that it neither cuts nor pads."""
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def n_tokens_of(tokenizer: Tokenizer, text: str) -> int:
    """Count wordpieces, without the marks around them."""
    return len(tokenizer.encode(text, add_special_tokens=False).ids)


def bounded(tokenizer: Tokenizer, text: str, start: int, end: int, budget: int) -> Iterator[tuple[int, int, int]]:
    """Yield a stretch as (start, end, wordpieces), without white space around it; in halves, where it breaks a bound.

    Args:
        tokenizer: of the embedder.
        text: the document's.
        start: of the stretch.
        end: of the stretch.
        budget: most wordpieces.
    """
    start, end = trimmed(text, start, end)
    if start == end:
        return
    n_tokens = n_tokens_of(tokenizer, text[start:end]) if end - start <= MAX_CHARS else budget + 1
    if n_tokens <= budget or end - start == 1:
        yield start, end, n_tokens
        return
    middle = _near_space(text, start, end)
    yield from bounded(tokenizer, text, start, middle, budget)
    yield from bounded(tokenizer, text, middle, end, budget)


def slabs(text: str, start: int, end: int, max_chars: int) -> Iterator[Span]:
    """Yield a stretch in parts of bounded length, cut between paragraphs, else between lines."""
    while end - start > max_chars:
        bound = start + max_chars
        cut = max(text.rfind("\n\n", start + max_chars // 2, bound), text.rfind("\n", bound - max_chars // 8, bound))
        stop = cut + 1 if cut >= 0 else bound
        yield start, stop
        start = stop
    yield start, end


def not_too_many(document: Document, pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    """Return the pieces of a document.

    Raises:
        Unprocessable: `too_many_chunks`.
    """
    kept: list[Piece] = []
    for piece in pieces:
        kept.append(piece)
        if len(kept) > CHUNKS_MAX + _COUNTED_ON:
            break
    if len(kept) > CHUNKS_MAX:
        n_chunks = round(len(kept) * len(document.text.rstrip()) / kept[-1].end)
        raise Unprocessable(
            "too_many_chunks",
            f"the document makes {n_chunks:,} chunks or about that; expected at most {CHUNKS_MAX:,}: "
            "split the document",
        )
    return tuple(kept)


def _near_space(text: str, start: int, end: int) -> int:
    """Return where to halve a stretch of two characters or more: at the last space before its middle, else there."""
    middle = (start + end) // 2
    space = text.rfind(" ", start + (middle - start) // 2, middle)
    return space if space > start else middle
