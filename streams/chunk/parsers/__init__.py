"""The tables of parsers: content type -> a pure function of the text, or of the file. Adding one is a file and a line.

Children are many, and most see little but Markdown, HTML and plain text. So every other parser, and the library that it
needs, is loaded when it is first called.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final

from streams.chunk.document import Document
from streams.chunk.parsers.html import parse_html
from streams.chunk.parsers.markdown import parse_markdown
from streams.chunk.parsers.plain import parse_plain


def _later(place: str) -> Callable[[str | bytes], Document]:
    """Return the parser at a place, as `mail.parse_eml`, loaded at its first call."""
    module, _, name = place.partition(".")

    def parse(source: str | bytes) -> Document:
        document: Document = getattr(import_module(f"{__name__}.{module}"), name)(source)
        return document

    return parse


_OOXML: Final = "application/vnd.openxmlformats-officedocument"
_ODF: Final = "application/vnd.oasis.opendocument"

PARSERS: Final[Mapping[str, Callable[[str], Document]]] = {
    "text/markdown": parse_markdown,
    "text/html": parse_html,
    "text/plain": parse_plain,
    "text/x-rst": _later("markup.parse_rst"),
    "text/x-org": _later("markup.parse_org"),
    "text/csv": _later("delimited.parse_csv"),
    "text/tab-separated-values": _later("delimited.parse_tsv"),
    "application/json": _later("structured.parse_json"),
    "application/x-ndjson": _later("structured.parse_ndjson"),
    "application/xml": _later("structured.parse_xml"),
}
"""Of text in NFC with `\\n` line ends."""

FILE_PARSERS: Final[Mapping[str, Callable[[bytes], Document]]] = {
    "message/rfc822": _later("mail.parse_eml"),
    "application/vnd.ms-outlook": _later("mail.parse_msg"),
    "application/rtf": _later("rtf.parse_rtf"),
    "application/pdf": _later("pdf.parse_pdf"),
    f"{_OOXML}.wordprocessingml.document": _later("office.parse_docx"),
    "application/msword": _later("office.parse_doc"),
    f"{_OOXML}.presentationml.presentation": _later("office.parse_pptx"),
    "application/vnd.ms-powerpoint": _later("office.parse_ppt"),
    f"{_OOXML}.spreadsheetml.sheet": _later("sheets.parse_sheets"),
    "application/vnd.ms-excel": _later("sheets.parse_sheets"),
    f"{_ODF}.text": _later("odf.parse_odt"),
    f"{_ODF}.spreadsheet": _later("sheets.parse_sheets"),
    "application/epub+zip": _later("epub.parse_epub"),
}
"""Of whole files, by nobody's word but their own."""
