"""Writes a document version to the generation's index in OpenSearch, or takes the document out of it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from schemas.events import DocumentEmbedded
from streams.ports import Sink
from streams.progress import place_of
from streams.runtime.record import Flush, Inbound, Outbound

OPENSEARCH: Final = "opensearch"
"""Name of the part that holds it."""


@dataclass(frozen=True, kw_only=True)
class IndexOpensearch:
    """The handler of an embeddings topic, beside that of Postgres.

    Which version is live is said in Postgres alone, so this stage says nothing of its progress.

    Attributes:
        sink: where chunks and vectors go.
    """

    sink: Sink

    async def __call__(self, record: Inbound[DocumentEmbedded]) -> AsyncIterator[Outbound | Flush]:
        """Write behind the fence; a version that is older than what is held changes nothing."""
        key, version = place_of(record)
        if record.event is None:
            await self.sink.remove(key, version)
        else:
            await self.sink.replace(record.event)
        return
        yield
