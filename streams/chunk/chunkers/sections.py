"""Cuts a document at its headings and pages, and keeps each heading path short enough to be embedded with its text."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tokenizers import Tokenizer

from streams.chunk.document import Document, Heading

PATH_MAX_TOKENS: Final = 64
HEADING_MAX_CHARS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What stands under one heading path on one page, its heading lines included; the text under them begins at
    `body`."""

    start: int
    body: int
    end: int
    headings: tuple[str, ...]


def sections(document: Document) -> Iterator[Section]:
    """Yield the sections of a document, in order; together they are the whole text.

    A heading without text of its own begins the section of the deeper heading that follows it. None goes over the end
    of a page: so the page on which a chunk begins is the page of all its words.
    """
    for section in _under_headings(document):
        yield from _by_page(section, document.pages)


def _by_page(section: Section, pages: Sequence[int]) -> Iterator[Section]:
    for page in pages[bisect_right(pages, section.body) : bisect_left(pages, section.end)]:
        yield replace(section, end=page)
        section = replace(section, start=page, body=page)
    yield section


def _under_headings(document: Document) -> Iterator[Section]:
    text, headings = document.text, document.headings
    starts = [*(heading.start for heading in headings), len(text)]
    if starts[0] > 0:
        yield Section(start=0, body=0, end=starts[0], headings=())
    path: list[Heading] = []
    start: int | None = None
    for number, heading in enumerate(headings):
        path = [*(above for above in path if above.level < heading.level), heading]
        start = heading.start if start is None else start
        end = starts[number + 1]
        deeper_follows = number + 1 < len(headings) and headings[number + 1].level > heading.level
        if deeper_follows and not text[heading.end : end].strip():
            continue
        yield Section(start=start, body=heading.end, end=end, headings=tuple(above.text for above in path))
        start = None


def fitting_path(tokenizer: Tokenizer, headings: Sequence[str]) -> tuple[tuple[str, ...], int]:
    """Return the innermost headings that fit into PATH_MAX_TOKENS, and their tokens, with one for what joins each.

    The innermost one is shortened where it does not fit alone.
    """
    kept: list[str] = []
    n_tokens = 0
    for heading in reversed(headings):
        heading = heading[:HEADING_MAX_CHARS].strip()
        encoding = tokenizer.encode(heading, add_special_tokens=False)
        if not kept and len(encoding.ids) >= PATH_MAX_TOKENS:
            return (heading[: encoding.offsets[PATH_MAX_TOKENS - 2][1]],), PATH_MAX_TOKENS
        if n_tokens + len(encoding.ids) + 1 > PATH_MAX_TOKENS:
            break
        kept.insert(0, heading)
        n_tokens += len(encoding.ids) + 1
    return tuple(kept), n_tokens
