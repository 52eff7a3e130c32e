"""PDF: the text of each page, and the headings that its outline names."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from streams.chunk.document import Document, Heading, joined, normalised
from streams.errors import Unprocessable

if TYPE_CHECKING:
    from pypdfium2 import PdfDocument

PAGES_MAX: Final = 5_000
HEADINGS_MAX: Final = 5_000
TITLE_MAX_CHARS: Final = 500

_PASSWORD_ERROR: Final = 4  # FPDF_ERR_PASSWORD
_BROKEN_WORD: Final = re.compile("[\x02\ufffe](?:\r?\n)?")  # how PDFium marks a hyphen that only ends a line
_FULL_LINE_SHARE: Final = 0.9
_SHORT_LINE_SHARE: Final = 0.6
_NUMBER_MAX_CHARS: Final = 8


def parse_pdf(content: bytes) -> Document:
    """Read the text layer; scanned pages have none, and are not recognised."""
    from pypdfium2 import PdfDocument, PdfiumError

    try:
        with PdfDocument(content) as pdf:
            pages = joined(_pages(pdf), paged=True, syntax="text")
            return replace(pages, title=_title(pdf), headings=tuple(_headings(pdf, pages)))
    except PdfiumError as error:
        if error.err_code == _PASSWORD_ERROR:
            raise Unprocessable("encrypted", "the file is protected by a password; save it without one") from error
        raise Unprocessable("malformed", f"the file cannot be read as PDF: {error}") from error


def _pages(pdf: "PdfDocument") -> Iterator[Document]:
    if len(pdf) > PAGES_MAX:
        raise Unprocessable("too_many_pages", f"the file has {len(pdf)} pages; expected at most {PAGES_MAX}: split it")
    for number in range(len(pdf)):
        page = pdf[number]
        words = page.get_textpage()
        text = _BROKEN_WORD.sub("", words.get_text_bounded())
        words.close()
        page.close()
        yield Document(text=_in_paragraphs(normalised(text)), syntax="text")


def _in_paragraphs(text: str) -> str:
    """Put a blank line after lines that are much shorter than the full ones: there a paragraph or a heading ends."""
    lines = [line.strip() for line in text.split("\n")]
    lengths = sorted(len(line) for line in lines if line)
    if not lengths:
        return ""
    full = lengths[int(_FULL_LINE_SHARE * (len(lengths) - 1))]
    return "\n".join(f"{line}\n" if len(line) < _SHORT_LINE_SHARE * full else line for line in lines)


def _title(pdf: "PdfDocument") -> str | None:
    title = " ".join(normalised(pdf.get_metadata_value("Title")).split())
    return title[:TITLE_MAX_CHARS] or None


def _headings(pdf: "PdfDocument", document: Document) -> Iterator[Heading]:
    """Yield the entries of the outline that stand as lines on the page to which they lead, in order of the text."""
    after = 0
    for entry in islice(pdf.get_toc(), HEADINGS_MAX):
        target = entry.get_dest()
        page = target.get_index() if target is not None else None
        title = " ".join(normalised(entry.get_title()).split())
        if page is None or not 0 <= page < len(document.pages) or not title:
            continue
        start = max(after, document.pages[page])
        end = document.pages[page + 1] if page + 1 < len(document.pages) else len(document.text)
        found = _line(document.text, title, start, end)
        if found is not None:
            after = found[1]
            yield Heading(start=found[0], end=found[1], level=entry.level + 1, text=title)


def _line(text: str, title: str, start: int, end: int) -> tuple[int, int] | None:
    """Return the span of the lines, one or two, that say the title, perhaps after a number."""
    wanted = _bare(title)
    ends = [match.end() for match in re.finditer(r"\n+", text[start:end])] or [end - start]
    begin = 0
    for number, stop in enumerate(ends):
        for last in (stop, ends[min(number + 1, len(ends) - 1)]):
            said = _bare(text[start + begin : start + last])
            if said.endswith(wanted) and len(said) - len(wanted) <= _NUMBER_MAX_CHARS:
                return start + begin, start + last
        begin = stop
    return None


def _bare(text: str) -> str:
    return "".join(text.split()).casefold()
