"""RTF: its words, without their looks."""

from streams.chunk.document import Document, normalised


def parse_rtf(content: bytes) -> Document:
    """Read the words; each paragraph stands apart."""
    from striprtf.striprtf import rtf_to_text

    text = rtf_to_text(content.decode("latin-1"), encoding="cp1252", errors="replace")  # type: ignore[no-untyped-call]
    return Document(text=normalised(text).replace("\n", "\n\n"), syntax="text")
