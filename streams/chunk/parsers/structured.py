"""JSON, NDJSON and XML: a line per value, with the names under which it stands."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.sax.handler import ContentHandler

from streams.chunk.document import Document, normalised
from streams.chunk.parsers.html import parse_html
from streams.chunk.xml import read_xml
from streams.errors import Unprocessable


def parse_json(text: str) -> Document:
    """Show each value with its path; the items of a list stand apart."""
    return Document(text="\n\n".join(_groups(_loaded(text, "the file"))), syntax="text")


def parse_ndjson(text: str) -> Document:
    """Show each line as `parse_json` does."""
    lines = (_loaded(line, f"line {number}") for number, line in enumerate(text.split("\n"), start=1) if line.strip())
    return Document(text="\n\n".join(group for value in lines for group in _groups(value)), syntax="text")


def _loaded(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unprocessable("malformed", f"{what} is not JSON: {error}") from error


def _groups(value: Any) -> Iterator[str]:
    for item in value if isinstance(value, list) else [value]:
        try:
            group = "\n".join(_leaves(item, ""))
        except RecursionError as error:
            raise Unprocessable("malformed", "the JSON is nested too deeply to be read") from error
        if group:
            yield group


def _leaves(value: Any, path: str) -> Iterator[str]:
    match value:
        case dict():
            for name, inner in value.items():
                yield from _leaves(inner, f"{path} {name}".strip())
        case list() if any(isinstance(inner, dict | list) for inner in value):
            for inner in value:
                yield from _leaves(inner, path)
        case list():
            yield from _line(path, ", ".join(_shown(inner) for inner in value))
        case _:
            yield from _line(path, _shown(value))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value) if value is not None else ""


def _line(label: str, value: str) -> Iterator[str]:
    words = " ".join(normalised(value).split())
    if words:
        yield f"- {normalised(label)}: {words}" if label else f"- {words}"


# --- XML ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Open:
    """An element that has not ended: its whole text, the lines of its attributes and those that its children made, and
    whether words of its own stand in it."""

    name: str
    text: list[str] = field(default_factory=list)
    attributes: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    has_words: bool = False


class _Lines(ContentHandler):
    def __init__(self) -> None:
        super().__init__()
        self.top = _Open("")
        self._path = [self.top]

    def startElement(self, name: str, attrs: Any) -> None:  # noqa: N802 - as xml.sax calls it
        name = name.rpartition(":")[2]
        self._path.append(_Open(name))
        for attribute, value in attrs.items():
            if not attribute.startswith(("xmlns", "xml:", "xsi:")):
                self._path[-1].attributes += _line(f"{name} {attribute}", value)

    def characters(self, content: str) -> None:
        self._path[-1].text.append(content)
        self._path[-1].has_words = self._path[-1].has_words or not content.isspace()

    def endElement(self, name: str) -> None:  # noqa: N802
        ended, parent = self._path.pop(), self._path[-1]
        text = "".join(ended.text)
        parent.lines += ended.attributes
        if ended.has_words:
            parent.lines += _line(ended.name, text)
        elif ended.lines:
            parent.lines += [*ended.lines, ""]
        parent.text.append(text)


def parse_xml(text: str) -> Document:
    """Show each element's text with its name; an element in which words and elements mix is one text."""
    if "<html" in text[:2000].lower():
        return parse_html(text)
    lines = _Lines()
    read_xml(text, lines, what="the file")
    return Document(text="\n".join(lines.top.lines), syntax="text")
