"""The table of parsers: content type -> a pure function of the normalised text. Adding one is a file and a line."""

from collections.abc import Callable, Mapping
from typing import Final

from streams.chunk.document import Document
from streams.chunk.parsers.html import parse_html
from streams.chunk.parsers.markdown import parse_markdown
from streams.chunk.parsers.plain import parse_plain

PARSERS: Final[Mapping[str, Callable[[str], Document]]] = {
    "text/markdown": parse_markdown,
    "text/html": parse_html,
    "text/plain": parse_plain,
}
