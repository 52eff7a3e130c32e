"""Where a document comes from that was submitted as a `uri`."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A document from afar.

    Attributes:
        text: of a text.
        content: bytes of what is no text, or of what its server gives no content type.
        content_type: media type that its server gave, without parameters; None: none given.
    """

    text: str = ""
    content: bytes | None = None
    content_type: str | None = None


class UriSource(Protocol):
    """Fetches what a `uri` names, if that is allowed at all."""

    async def fetch(self, uri: str) -> Fetched:
        """Return the document behind a uri.

        Raises:
            Unprocessable: not allowed, not there, too large, or a text that cannot be decoded.
            Transient: the server is away or busy.
        """
        ...
