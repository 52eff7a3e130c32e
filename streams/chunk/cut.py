"""Parses one document and cuts it: a pure function, which runs in a child of the parse pool."""

from streams.chunk.chunkers import Chunker
from streams.chunk.document import Parsed, normalised
from streams.chunk.parsers import PARSERS
from streams.errors import Unprocessable


def parse_and_cut(text: str, content_type: str, chunker: Chunker) -> Parsed:
    """Parse a document and cut it into chunks.

    Raises:
        Unprocessable: `unsupported_content_type`, `no_text`, `too_many_chunks`.
    """
    parse = PARSERS.get(content_type)
    if parse is None:
        raise Unprocessable(
            "unsupported_content_type", f"content type {content_type[:80]!r}; expected one of {', '.join(PARSERS)}"
        )
    document = parse(normalised(text))
    pieces = chunker(document)
    if not pieces:
        raise Unprocessable(
            "no_text",
            f"nothing to read is left of the {len(text)} characters after parsing as {content_type}; "
            "check the content type, or send the text itself",
        )
    return Parsed(text=document.text, title=document.title, pieces=pieces)
