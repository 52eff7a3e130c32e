"""Documents behind uris, in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from streams.errors import Unprocessable
from streams.intake.uri_source import Fetched


@dataclass(kw_only=True)
class MemoryUriSource:
    """`UriSource` that allows what it holds."""

    held: Mapping[str, Fetched] = field(default_factory=dict)

    async def fetch(self, uri: str) -> Fetched:
        if uri not in self.held:
            raise Unprocessable("uri_refused", f"uri {uri!r} may not be fetched")
        return self.held[uri]
