"""The port through which the chunk stage has documents parsed and cut, away from its own process."""

from typing import Protocol

from streams.chunk.document import Parsed


class Parser(Protocol):
    """Parses documents that nobody vouches for."""

    async def parse(self, text: str, *, content_type: str, chunker: str) -> Parsed:
        """Parse a document and cut it into chunks.

        Args:
            text: of the document, as accepted.
            content_type: one of `streams.chunk.parsers.PARSERS`.
            chunker: one of `streams.chunk.chunkers.CHUNKERS`.

        Raises:
            Unprocessable: `unsupported_content_type`, `no_text`, `too_many_chunks`; `parse_timeout`, `parse_memory` or
                `parse_crashed` when parsing had to be ended or ended by itself.
            Transient: a process was ended from outside, or none can be started.
            Fatal: the parser cannot work at all, as without its tokenizer.
        """
        ...
