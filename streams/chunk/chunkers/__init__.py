"""The table of chunkers: name -> what makes one, and its size unless another is named. Adding one is a file and a line.

A chunker's name is part of the ids of its chunks and of its topic, so what a name stands for never changes. A size in
wordpieces may follow it, as in `tokens-64`: that is another chunker, with a topic of its own.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from tokenizers import Tokenizer

from streams.chunk.chunkers import sentences, structure, tokens
from streams.chunk.document import Document, Piece
from streams.errors import Fatal

Chunker = Callable[[Document], tuple[Piece, ...]]

SIZE_MIN: Final = 16
SIZE_MAX: Final = 190
"""With the longest heading path, and the marks that a model wants, a text of this size fits into 256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A kind of chunker. `size`: of the one that is named without a size."""

    make: Callable[[Tokenizer, int], Chunker]
    size: int


CHUNKERS: Final[Mapping[str, Row]] = {
    "structure": Row(make=structure.Structure, size=structure.TARGET_TOKENS),
    "sentences": Row(make=sentences.Sentences, size=sentences.TARGET_TOKENS),
    "tokens": Row(make=tokens.Tokens, size=tokens.WINDOW_TOKENS),
}

_NAME: Final = re.compile(r"([a-z]+)(?:-([1-9][0-9]{0,3}))?")


def parse_chunker(name: str) -> tuple[Row, int]:
    """Return the kind of a chunker, and its size in wordpieces.

    Raises:
        Fatal: no chunker is named so; the message says which there are.
    """
    found = _NAME.fullmatch(name)
    row = CHUNKERS.get(found[1]) if found else None
    if found is None or row is None:
        raise Fatal(f"there is no chunker {name[:100]!r}; {_known()}")
    if found[2] is None:
        return row, row.size
    size = int(found[2])
    if size == row.size:
        raise Fatal(f"the chunker {name!r} is {found[1]!r}, which it is to be called")
    if not SIZE_MIN <= size <= SIZE_MAX:
        raise Fatal(f"the chunker {name!r} has the size {size}; {_known()}")
    return row, size


def make_chunker(name: str, tokenizer: Tokenizer) -> Chunker:
    """Make a chunker, which counts with the tokenizer.

    Raises:
        Fatal: as for `parse_chunker`.
    """
    row, size = parse_chunker(name)
    return row.make(tokenizer, size)


def _known() -> str:
    names = ", ".join(f"{name!r} (size {row.size})" for name, row in CHUNKERS.items())
    return f"known are {names}, each with another size of {SIZE_MIN} to {SIZE_MAX} wordpieces as in 'tokens-64'"
