"""Plain text: it is what it says, without headings."""

from streams.chunk.document import Document


def parse_plain(text: str) -> Document:
    """Take text as it is."""
    return Document(text=text, syntax="text")
