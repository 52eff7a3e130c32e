"""OpenDocument texts (ODT), by way of HTML."""

from html import escape
from typing import Any, Final
from xml.sax.handler import ContentHandler

from streams.chunk.archive import member, opened
from streams.chunk.document import Document
from streams.chunk.parsers.html import parse_html
from streams.chunk.xml import read_xml
from streams.errors import Unprocessable

_TAGS: Final = {
    "text:p": "p",
    "text:list": "ul",
    "text:list-item": "li",
    "table:table": "table",
    "table:table-row": "tr",
    "table:table-cell": "td",
}
# What is no part of the text as it reads: deleted words, remarks, tables of contents, styles.
_LEFT_OUT: Final = ("text:tracked-changes", "office:annotation", "text:table-of-content", "office:automatic-styles")
_HEADING_MAX: Final = 6


def parse_odt(content: bytes) -> Document:
    """Read headings, paragraphs, lists and tables."""
    archive = opened(content)
    names = archive.namelist()
    if "META-INF/manifest.xml" in names and b"encryption-data" in member(archive, "META-INF/manifest.xml"):
        raise Unprocessable("encrypted", "the file is protected by a password; save it without one")
    html = _Html()
    read_xml(member(archive, "content.xml"), html, what="content.xml in the file")
    return parse_html("".join(html.parts))


class _Html(ContentHandler):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._open: list[str] = []
        self._left_out = 0

    def startElement(self, name: str, attrs: Any) -> None:  # noqa: N802 - as xml.sax calls it
        self._left_out += name in _LEFT_OUT
        if name == "text:h":
            level = attrs.get("text:outline-level", "1")
            self._start(f"h{min(int(level), _HEADING_MAX) if level.isdecimal() else 1}")
        elif name in _TAGS:
            self._start(_TAGS[name])
        elif name == "text:line-break":
            self._add("<br>")
        elif name in ("text:s", "text:tab"):
            self._add(" ")

    def endElement(self, name: str) -> None:  # noqa: N802
        if name in _TAGS or name == "text:h":
            self._add(f"</{self._open.pop()}>")
        self._left_out -= name in _LEFT_OUT

    def characters(self, content: str) -> None:
        self._add(escape(content))

    def _start(self, tag: str) -> None:
        self._open.append(tag)
        self._add(f"<{tag}>")

    def _add(self, part: str) -> None:
        if not self._left_out:
            self.parts.append(part)
