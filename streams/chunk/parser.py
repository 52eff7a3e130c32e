"""The port through which the chunk stage has documents parsed and cut, away from its own process."""

from typing import Protocol

from streams.chunk.document import Parsed


class Parser(Protocol):
    """Parses documents that nobody vouches for."""

    async def parse(self, source: str | bytes, *, content_type: str, chunker: str) -> Parsed:
        """Parse a document and cut it into chunks.

        Args:
            source: text of the document, or the bytes of its file, as accepted.
            content_type: of the table `schemas.formats`; for bytes also `application/octet-stream`.
            chunker: its name, as `streams.chunk.chunkers.parse_chunker` reads it.

        Raises:
            Unprocessable: the reasons of `streams.chunk.cut.parse_and_cut`; `parse_timeout`, `parse_memory` or
                `parse_crashed` when parsing had to be ended or ended by itself.
            Transient: a process was ended from outside, or none can be started.
            Fatal: the parser cannot work at all, as without its tokenizer, or there is no such chunker.
        """
        ...
