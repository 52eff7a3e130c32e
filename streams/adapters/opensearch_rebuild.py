"""An index of OpenSearch that is rebuilt."""

from dataclasses import dataclass
from typing import Any, Final

from schemas.events import DocumentEmbedded
from schemas.ids import DocumentId, DocumentKey, Tenant
from streams.adapters.opensearch_index import OpensearchIndex
from streams.adapters.postgres import Pool, lend
from streams.ports import SunkVersions

_LIVE: Final = "SELECT tenant, document, version, n_chunks FROM live WHERE generation = $1 AND NOT deleted"


@dataclass(frozen=True, kw_only=True)
class RebuiltIndex:
    """`Rebuilt` on the index of a generation.

    Attributes:
        pool: connections to Postgres, which says what is live.
        index: writes behind its own fence.
        versions: what stands in it.
    """

    pool: "Pool[Any]"
    index: OpensearchIndex
    versions: SunkVersions

    async def prepare(self) -> None:
        """See `Rebuilt.prepare`."""
        if await self.index.ensure():
            await self.versions.forget()

    async def put(self, event: DocumentEmbedded) -> bool:
        """See `Rebuilt.put`."""
        written = await self.index.replace(event)
        if written:
            await self.versions.sunk(DocumentKey(Tenant(event.tenant), DocumentId(event.document)), event.version)
        return written

    async def remove(self, key: DocumentKey, version: int) -> bool:
        """See `Rebuilt.remove`."""
        written = await self.index.remove(key, version)
        if written:
            await self.versions.sunk(key, version)
        return written

    async def finish(self) -> int:
        """See `Rebuilt.finish`; what is deleted has its marker from the log."""
        await self.index.refresh()
        held = {
            str(each.key): (each.version, len(each.chunks)) async for each in self.index.documents() if not each.deleted
        }
        async with lend(self.pool) as connection:
            rows = await connection.fetch(_LIVE, self.index.generation)
        return sum(held.get(f"{row['tenant']}/{row['document']}") != (row["version"], row["n_chunks"]) for row in rows)
