"""What parsing and chunking give: plain data that crosses a process boundary, with spans in code points."""

import unicodedata
from dataclasses import dataclass

import msgspec

from streams.text.sentences import Syntax


@dataclass(frozen=True, slots=True, kw_only=True)
class Heading:
    """A heading line. `start`, `end` span its lines with the last line end; `level` counts from 1; `text` is plain."""

    start: int
    end: int
    level: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a parser gives.

    Attributes:
        text: parsed text: NFC, line ends `\\n`.
        syntax: how the text is to be split.
        title: as the document itself names it; None where it does not.
        headings: in order of the text.
    """

    text: str
    syntax: Syntax
    title: str | None = None
    headings: tuple[Heading, ...] = ()


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """One chunk as spans. `start`, `end` index the parsed text; `sentences` index the chunk.

    `n_tokens` counts wordpieces of heading path and text, [CLS] and [SEP] included.
    """

    start: int
    end: int
    headings: tuple[str, ...]
    n_tokens: int
    sentences: tuple[tuple[int, int], ...]


class Parsed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A parsed document and its chunks, in order; they do not overlap."""

    text: str
    title: str | None
    pieces: tuple[Piece, ...]


def normalised(text: str) -> str:
    """Return text with `\\n` line ends, in NFC, without a byte order mark."""
    return unicodedata.normalize("NFC", text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))
