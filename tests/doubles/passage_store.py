"""The serving fence in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas import conditions
from schemas.events import DocumentEmbedded, Filters
from schemas.ids import ChunkId
from streams.ports import Passage
from tests.doubles.generation_store import MemoryGeneration


def may_read(filters: Filters, acl: Sequence[str] | None) -> bool:
    """Tell whether a reader has one of the groups, if there are any."""
    return acl is None or bool(set(acl) & set(filters.groups))


def may_see(tenant: str, filters: Filters, document: DocumentEmbedded) -> bool:
    """Tell whether a reader may see, and asked for, a document."""
    if document.tenant != tenant or not may_read(filters, document.acl):
        return False
    if filters.collection is not None and document.collection != filters.collection:
        return False
    wanted = conditions.AllOf([conditions.plain(filters.metadata), conditions.parse(filters.where or {})])
    return conditions.matches(wanted, document.metadata)


@dataclass(kw_only=True)
class MemoryPassages:
    """`PassageStore` on a `MemoryGeneration`."""

    generation: MemoryGeneration

    async def passages(self, tenant: str, chunks: Sequence[ChunkId], filters: Filters) -> Mapping[ChunkId, Passage]:
        found = {}
        for name in chunks:
            row = self.generation.chunks.get(name)
            if row is None:
                continue
            live, latest = self.generation.live[row.key], self.generation.documents.rows[row.key]
            if live.version <= latest.deleted_version or not may_read(filters, latest.attributes.get("acl")):
                continue
            if live.document is None or not may_see(tenant, filters, live.document):
                continue
            found[name] = Passage(
                chunk=name,
                document=row.key.document,
                version=live.version,
                ordinal=row.chunk.ordinal,
                text=row.chunk.text,
                start=row.chunk.start,
                end=row.chunk.end,
                headings=row.chunk.headings,
                sentences=row.chunk.sentences,
                sentence_vectors=row.sentence_vectors,
                title=live.document.title,
                uri=live.document.uri,
                collection=live.document.collection,
                metadata=live.document.metadata,
                page=row.chunk.page,
            )
        return found
