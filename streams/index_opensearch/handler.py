"""Writes a document version to the generation's index in OpenSearch, or takes the document out of it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from schemas.events import DocumentEmbedded
from streams.ports import Sink, SunkVersions
from streams.progress import place_of
from streams.runtime.record import Flush, Inbound, Outbound

OPENSEARCH: Final = "opensearch"
"""Name of the part that holds it."""


@dataclass(frozen=True, kw_only=True)
class IndexOpensearch:
    """The handler of an embeddings topic, beside that of Postgres.

    Which version is live is said by the index stage alone; this one notes what stands in the sink, which a switch
    waits for.

    Attributes:
        sink: where chunks and vectors go.
        versions: what stands there.
    """

    sink: Sink
    versions: SunkVersions

    async def __call__(self, record: Inbound[DocumentEmbedded]) -> AsyncIterator[Outbound | Flush]:
        """Write behind the fence; a version that is older than what is held changes nothing."""
        key, version = place_of(record)
        if record.event is None:
            written = await self.sink.remove(key, version)
        else:
            written = await self.sink.replace(record.event)
        if written:
            await self.versions.sunk(key, version)
        return
        yield
