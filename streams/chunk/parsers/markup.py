"""reStructuredText and Org: the text as written, with its headings."""

import re
from collections.abc import Iterator
from typing import Final

from streams.chunk.document import Document, Heading

_LINE: Final = re.compile(r"[^\n]*(?:\n|\Z)")
_ADORNMENT: Final = re.compile(r"([=\-`:'\"~^_*+#<>.])\1{2,}")
_ORG_HEADING: Final = re.compile(
    r"^(\*+)[ \t]+(?:(?:TODO|DONE)[ \t]+)?(\S.*?)(?:[ \t]+:[\w@:]+:)?[ \t]*(?:\n|\Z)", re.MULTILINE
)
_ORG_TITLE: Final = re.compile(r"^#\+TITLE:[ \t]*(\S.*?)[ \t]*$", re.MULTILINE | re.IGNORECASE)


def parse_rst(text: str) -> Document:
    """Find what is underlined, and perhaps overlined; levels count as their adornments first appear."""
    headings = tuple(_rst_headings(text))
    return Document(text=text, syntax="text", title=headings[0].text if headings else None, headings=headings)


def parse_org(text: str) -> Document:
    """Find lines that begin with stars."""
    headings = tuple(
        Heading(start=found.start(), end=found.end(), level=len(found[1]), text=found[2])
        for found in _ORG_HEADING.finditer(text)
    )
    named = _ORG_TITLE.search(text)
    title = named[1] if named is not None else next((each.text for each in headings if each.level == 1), None)
    return Document(text=text, syntax="text", title=title, headings=headings)


def _rst_headings(text: str) -> Iterator[Heading]:
    lines = [(match.start(), match.end(), match[0].strip()) for match in _LINE.finditer(text)]
    levels: dict[tuple[str, bool], int] = {}
    for above, title, below in zip([(0, 0, ""), *lines], lines, lines[1:], strict=False):
        rule = _ADORNMENT.fullmatch(below[2])
        if rule is None or not title[2] or len(below[2]) < len(title[2]) or _ADORNMENT.fullmatch(title[2]):
            continue
        overlined = above[2] == below[2]
        if above[2] and not overlined:
            continue  # the last line of a paragraph or a table, not a title
        level = levels.setdefault((rule[1], overlined), len(levels) + 1)
        yield Heading(start=(above if overlined else title)[0], end=below[1], level=level, text=title[2])
