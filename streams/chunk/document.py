"""What parsing and chunking give: plain data that crosses a process boundary, with spans in code points."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from streams.text.sentences import Syntax

_UNSHOWN: Final = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")  # Postgres stores no NUL, for one


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
        pages: where each page begins, in order, the first at 0; empty: the format has no pages.
    """

    text: str
    syntax: Syntax
    title: str | None = None
    headings: tuple[Heading, ...] = ()
    pages: tuple[int, ...] = ()


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """One chunk as spans. `start`, `end` index the parsed text; `sentences` index the chunk.

    `n_tokens` counts wordpieces of heading path and text, [CLS] and [SEP] included. `page` counts from 1; None: the
    format has no pages.
    """

    start: int
    end: int
    headings: tuple[str, ...]
    n_tokens: int
    sentences: tuple[tuple[int, int], ...]
    page: int | None = None


class Parsed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A parsed document and its chunks, in order; they do not overlap."""

    text: str
    title: str | None
    pieces: tuple[Piece, ...]


def normalised(text: str) -> str:
    """Return text with `\\n` line ends, in NFC, without a byte order mark and what cannot be stored or shown."""
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    return unicodedata.normalize("NFC", _UNSHOWN.sub("", text))


def joined(
    parts: Iterable[Document], *, title: str | None = None, syntax: Syntax = "markdown", paged: bool = False
) -> Document:
    """Return parts as one document, a blank line between them.

    Args:
        parts: in order.
        syntax: of all of them.
        title: of the whole; None: that of the first part that has one.
        paged: each part is a page, empty ones too.
    """
    texts: list[str] = []
    headings: list[Heading] = []
    pages: list[int] = []
    place = 0
    for part in parts:
        title = title or part.title
        pages.append(place)
        headings += [replace(each, start=place + each.start, end=place + each.end) for each in part.headings]
        text = part.text.rstrip()
        if text:
            texts.append(text + "\n")
            place += len(text) + 2
    return Document(
        text="\n".join(texts),
        syntax=syntax,
        title=title,
        headings=tuple(headings),
        pages=tuple(pages) if paged else (),
    )
