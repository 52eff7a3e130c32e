"""Texts and slides of Office (DOCX, DOC, PPTX, PPT), by way of HTML."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final, Literal

import msgspec

from streams.chunk.archive import opened
from streams.chunk.document import Document, joined
from streams.chunk.parsers.html import parse_html
from streams.errors import Unprocessable

_Kind = Literal["docx", "doc", "pptx", "ppt"]
_BETWEEN_SLIDES: Final = re.compile(r"^<hr />$", re.MULTILINE)


class _Slide(msgspec.Struct):
    elements: list[msgspec.Raw]


class _Slides(msgspec.Struct):
    """What is read of the file's structure; its pictures are passed over."""

    sections: list[_Slide]


def _parse_text(content: bytes, *, kind: _Kind) -> Document:
    html, _ = _read(content, kind)
    return _titled(parse_html(html))


def _parse_slides(content: bytes, *, kind: _Kind) -> Document:
    html, structure = _read(content, kind)
    shown, slides = _BETWEEN_SLIDES.split(html), structure.sections
    if len(shown) == sum(bool(slide.elements) for slide in slides) < len(slides):
        # An empty slide is a page too, though most leave nothing in the HTML.
        filled = iter(shown)
        shown = [next(filled) if slide.elements else "" for slide in slides]
    # Where the two do not agree, no page is better than a wrong one.
    return _titled(joined(map(parse_html, shown), paged=len(shown) == len(slides)))


def _read(content: bytes, kind: _Kind) -> tuple[str, _Slides]:
    from office_oxide import Document as File
    from office_oxide import OfficeOxideError

    if content.startswith(b"PK"):
        opened(content)
    try:
        file = File.from_bytes(content, kind)
        structure = msgspec.json.decode(file.to_ir_json(), type=_Slides) if kind in ("pptx", "ppt") else _Slides([])
        return str(file.to_html()), structure
    except OfficeOxideError as error:
        if "password" in str(error) or "encrypted" in str(error):
            raise Unprocessable("encrypted", "the file is protected by a password; save it without one") from error
        raise Unprocessable("malformed", f"the file cannot be read as {kind.upper()}: {error}") from error


def _titled(document: Document) -> Document:
    first = document.headings[0].text if document.headings else None
    return replace(document, title=document.title or first)


_Parse = Callable[[bytes], Document]
parse_docx: Final[_Parse] = partial(_parse_text, kind="docx")
parse_doc: Final[_Parse] = partial(_parse_text, kind="doc")
parse_pptx: Final[_Parse] = partial(_parse_slides, kind="pptx")
parse_ppt: Final[_Parse] = partial(_parse_slides, kind="ppt")
