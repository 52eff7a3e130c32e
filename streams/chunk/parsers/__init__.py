"""The tables of parsers: content type -> a pure function of the text, or of the file. Adding one is a file and a line.

A parser of files loads its library when it is called: children are many, and most see nothing but text.
"""

from collections.abc import Callable, Mapping
from typing import Final

from streams.chunk.document import Document
from streams.chunk.parsers.delimited import parse_csv, parse_tsv
from streams.chunk.parsers.epub import parse_epub
from streams.chunk.parsers.html import parse_html
from streams.chunk.parsers.mail import parse_eml, parse_msg
from streams.chunk.parsers.markdown import parse_markdown
from streams.chunk.parsers.markup import parse_org, parse_rst
from streams.chunk.parsers.odf import parse_odt
from streams.chunk.parsers.office import parse_doc, parse_docx, parse_ppt, parse_pptx
from streams.chunk.parsers.pdf import parse_pdf
from streams.chunk.parsers.plain import parse_plain
from streams.chunk.parsers.rtf import parse_rtf
from streams.chunk.parsers.sheets import parse_sheets
from streams.chunk.parsers.structured import parse_json, parse_ndjson, parse_xml

_OOXML: Final = "application/vnd.openxmlformats-officedocument"
_ODF: Final = "application/vnd.oasis.opendocument"

PARSERS: Final[Mapping[str, Callable[[str], Document]]] = {
    "text/markdown": parse_markdown,
    "text/html": parse_html,
    "text/plain": parse_plain,
    "text/x-rst": parse_rst,
    "text/x-org": parse_org,
    "text/csv": parse_csv,
    "text/tab-separated-values": parse_tsv,
    "application/json": parse_json,
    "application/x-ndjson": parse_ndjson,
    "application/xml": parse_xml,
}
"""Of text in NFC with `\\n` line ends."""

FILE_PARSERS: Final[Mapping[str, Callable[[bytes], Document]]] = {
    "message/rfc822": parse_eml,
    "application/vnd.ms-outlook": parse_msg,
    "application/rtf": parse_rtf,
    "application/pdf": parse_pdf,
    f"{_OOXML}.wordprocessingml.document": parse_docx,
    "application/msword": parse_doc,
    f"{_OOXML}.presentationml.presentation": parse_pptx,
    "application/vnd.ms-powerpoint": parse_ppt,
    f"{_OOXML}.spreadsheetml.sheet": parse_sheets,
    "application/vnd.ms-excel": parse_sheets,
    f"{_ODF}.text": parse_odt,
    f"{_ODF}.spreadsheet": parse_sheets,
    "application/epub+zip": parse_epub,
}
"""Of whole files, by nobody's word but their own."""
