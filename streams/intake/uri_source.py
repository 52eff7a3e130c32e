"""Where the text of a document comes from that was submitted as a `uri`."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A text from afar. `content_type` is the media type that its server gave, without parameters; None: none given."""

    text: str
    content_type: str | None


class UriSource(Protocol):
    """Fetches what a `uri` names, if that is allowed at all."""

    async def fetch(self, uri: str) -> Fetched:
        """Return the text behind a uri.

        Raises:
            Unprocessable: not allowed, not there, too large, or no text.
            Transient: the server is away or busy.
        """
        ...
