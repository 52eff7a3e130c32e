"""Parses one document and cuts it: a pure function, which runs in a child of the parse pool."""

from bisect import bisect_right

from msgspec.structs import replace

from schemas.formats import TAKEN
from streams.chunk.charset import decoded
from streams.chunk.chunkers import Chunker
from streams.chunk.document import Document, Parsed, normalised
from streams.chunk.parsers import FILE_PARSERS, PARSERS
from streams.errors import Unprocessable


def parse_and_cut(source: str | bytes, content_type: str, chunker: Chunker) -> Parsed:
    """Parse a document and cut it into chunks.

    Args:
        source: its text, or the bytes of its file.
        content_type: of the text; of a file, what it was declared as.
        chunker: cuts.

    Raises:
        Unprocessable: `unsupported_content_type`, `encrypted`, `malformed`, `not_text`, `no_text`, `too_large`,
            `too_many_pages`, `too_many_chunks`.
    """
    if isinstance(source, bytes):
        from streams.chunk.signature import told_type  # most children see no file

        content_type = told_type(source, content_type)
    document = _parsed(source, content_type)
    pieces = chunker(document)
    if not pieces:
        unit = "bytes" if isinstance(source, bytes) else "characters"
        scanned = (
            " (pages that are pictures, as scans are, cannot be read)" if content_type == "application/pdf" else ""
        )
        raise Unprocessable(
            "no_text",
            f"nothing to read is left of the {len(source)} {unit} after parsing as {content_type}{scanned}; "
            "check the content type, or send the text itself",
        )
    if document.pages:
        pieces = tuple(replace(piece, page=bisect_right(document.pages, piece.start)) for piece in pieces)
    return Parsed(text=document.text, title=document.title, pieces=pieces)


def _parsed(source: str | bytes, content_type: str) -> Document:
    if isinstance(source, bytes) and content_type in FILE_PARSERS:
        return FILE_PARSERS[content_type](source)
    parse = PARSERS.get(content_type)
    if parse is None:
        instead = "its bytes as 'content'" if content_type in FILE_PARSERS else f"one of {TAKEN}"
        raise Unprocessable("unsupported_content_type", f"content type {content_type[:80]!r}; send {instead}")
    return parse(normalised(decoded(source) if isinstance(source, bytes) else source))
