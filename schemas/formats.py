"""The table of formats that a document may come in: how each is named in a request, and by the end of a file's name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

OCTETS: Final = "application/octet-stream"
"""What bytes are called whose format nobody has named: it is told from them when they are parsed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format.

    Attributes:
        name: for people.
        content_type: the one media type that documents carry.
        suffixes: of file names and document ids, in lower case.
        aliases: further media types that stand for it.
        is_text: it may be sent as `text`; the others are bytes, sent as `content`.
    """

    name: str
    content_type: str
    suffixes: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    is_text: bool = True


_OOXML: Final = "application/vnd.openxmlformats-officedocument"
_ODF: Final = "application/vnd.oasis.opendocument"

FORMATS: Final = (
    Format(name="plain text", content_type="text/plain", suffixes=(".txt", ".text", ".log", ".adoc")),
    Format(
        name="Markdown",
        content_type="text/markdown",
        suffixes=(".md", ".markdown", ".mdown"),
        aliases=("text/x-markdown",),
    ),
    Format(
        name="HTML",
        content_type="text/html",
        suffixes=(".html", ".htm", ".xhtml"),
        aliases=("application/xhtml+xml",),
    ),
    Format(
        name="reStructuredText",
        content_type="text/x-rst",
        suffixes=(".rst",),
        aliases=("text/prs.fallenstein.rst", "text/restructuredtext"),
    ),
    Format(name="Org", content_type="text/x-org", suffixes=(".org",), aliases=("text/org",)),
    Format(name="CSV", content_type="text/csv", suffixes=(".csv",), aliases=("application/csv",)),
    Format(name="TSV", content_type="text/tab-separated-values", suffixes=(".tsv", ".tab"), aliases=("text/tsv",)),
    Format(name="JSON", content_type="application/json", suffixes=(".json",), aliases=("text/json",)),
    Format(
        name="NDJSON",
        content_type="application/x-ndjson",
        suffixes=(".ndjson", ".jsonl"),
        aliases=("application/ndjson", "application/jsonl", "application/json-lines", "application/x-jsonlines"),
    ),
    Format(name="XML", content_type="application/xml", suffixes=(".xml",), aliases=("text/xml",)),
    Format(name="e-mail", content_type="message/rfc822", suffixes=(".eml",), is_text=False),
    Format(
        name="Outlook message",
        content_type="application/vnd.ms-outlook",
        suffixes=(".msg",),
        aliases=("application/x-msg",),
        is_text=False,
    ),
    Format(name="RTF", content_type="application/rtf", suffixes=(".rtf",), aliases=("text/rtf",), is_text=False),
    Format(
        name="PDF", content_type="application/pdf", suffixes=(".pdf",), aliases=("application/x-pdf",), is_text=False
    ),
    Format(name="DOCX", content_type=f"{_OOXML}.wordprocessingml.document", suffixes=(".docx",), is_text=False),
    Format(name="DOC", content_type="application/msword", suffixes=(".doc",), is_text=False),
    Format(name="PPTX", content_type=f"{_OOXML}.presentationml.presentation", suffixes=(".pptx",), is_text=False),
    Format(name="PPT", content_type="application/vnd.ms-powerpoint", suffixes=(".ppt",), is_text=False),
    Format(name="XLSX", content_type=f"{_OOXML}.spreadsheetml.sheet", suffixes=(".xlsx",), is_text=False),
    Format(name="XLS", content_type="application/vnd.ms-excel", suffixes=(".xls",), is_text=False),
    Format(name="ODT", content_type=f"{_ODF}.text", suffixes=(".odt",), is_text=False),
    Format(name="ODS", content_type=f"{_ODF}.spreadsheet", suffixes=(".ods",), is_text=False),
    Format(name="EPUB", content_type="application/epub+zip", suffixes=(".epub",), is_text=False),
)

_BY_TYPE: Final[Mapping[str, Format]] = {
    media_type: each for each in FORMATS for media_type in (each.content_type, *each.aliases)
}
_BY_SUFFIX: Final[Mapping[str, Format]] = {suffix: each for each in FORMATS for suffix in each.suffixes}

TAKEN: Final = ", ".join(each.name for each in FORMATS)
"""The formats as a sentence names them."""


def format_of_type(content_type: str) -> Format | None:
    """Return the format that a media type names, whatever its case and parameters; None for one that is not taken."""
    return _BY_TYPE.get(content_type.partition(";")[0].strip().lower())


def format_of_name(name: str) -> Format | None:
    """Return the format that the end of a file's name or document's id tells; None where it tells none."""
    _, dot, ending = name.rpartition(".")
    return _BY_SUFFIX.get(f".{ending.lower()}") if dot else None
