"""Markdown (CommonMark with tables): the front matter is taken off, headings are found, the rest stays as written."""

import re
from functools import cache
from itertools import pairwise
from typing import Final

from markdown_it import MarkdownIt

from streams.chunk.document import Document, Heading

_FRONT_MATTER: Final = re.compile(r"---[ \t]*\n(?P<body>(?:.*\n)*?)(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
_TITLE: Final = re.compile(r"^title[ \t]*:[ \t]*(?P<title>\S.*?)[ \t]*$", re.MULTILINE)
_BLOCK_SCALAR: Final = re.compile(r"[>|][-+\d]*")  # the title stands on the lines below: not read
_TEXT_TOKENS: Final = ("text", "code_inline", "softbreak")
TITLE_MAX_CHARS: Final = 500


def parse_markdown(text: str) -> Document:
    """Find title and headings; the title is that of the front matter, else the first heading of level 1."""
    title, body = _front_matter(text)
    headings = find_headings(body)
    if title is None:
        title = next((heading.text[:TITLE_MAX_CHARS] for heading in headings if heading.level == 1), None)
    return Document(text=body, syntax="markdown", title=title, headings=headings)


def find_headings(text: str) -> tuple[Heading, ...]:
    """Return the headings of Markdown text that stand in no list or quote; those without words are left out."""
    starts = _line_starts(text)
    found = []
    tokens = _blocks().parse(text)
    for token, inline in pairwise(tokens):
        if token.type != "heading_open" or token.level or token.map is None:
            continue
        words = _plain(inline.content)
        if words:
            first, last = token.map
            found.append(Heading(start=starts[first], end=starts[last], level=int(token.tag[1:]), text=words))
    return tuple(found)


def _front_matter(text: str) -> tuple[str | None, str]:
    matter = _FRONT_MATTER.match(text)
    if matter is None or ":" not in matter["body"]:
        return None, text  # a rule that begins the text, not a block of fields
    named = _TITLE.search(matter["body"])
    title = named["title"] if named is not None else None
    if title is not None and len(title) > 1 and title[0] == title[-1] and title[0] in "'\"":
        title = title[1:-1].strip()
    if title is not None and _BLOCK_SCALAR.fullmatch(title):
        title = None
    return (title[:TITLE_MAX_CHARS] if title else None), text[matter.end() :]


def _line_starts(text: str) -> list[int]:
    """Return where each line starts; the end of the text stands for the line after the last."""
    starts = [0]
    starts.extend(end.end() for end in re.finditer("\n", text))
    starts.append(len(text))
    return starts


def _plain(inline: str) -> str:
    """Return the words of a heading without their markup."""
    [token] = _inlines().parseInline(inline)
    children = token.children or []
    words = "".join(" " if c.type == "softbreak" else c.content for c in children if c.type in _TEXT_TOKENS)
    return " ".join(words.split())


@cache
def _blocks() -> MarkdownIt:
    # Only block structure is asked for; inlines are most of the work, and where hostile nesting hides.
    return MarkdownIt("commonmark").enable("table").disable(["inline", "text_join"])


@cache
def _inlines() -> MarkdownIt:
    return MarkdownIt("commonmark")
