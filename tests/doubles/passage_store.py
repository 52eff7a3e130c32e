"""The serving fence in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas import conditions
from schemas.events import DocumentEmbedded, Filters
from schemas.ids import ChunkId
from streams.ports import Passage
from tests.doubles.generation_store import MemoryGeneration


def may_see(tenant: str, filters: Filters, document: DocumentEmbedded) -> bool:
    """Tell whether a reader may see, and asked for, a document."""
    if document.tenant != tenant or (document.acl is not None and not set(document.acl) & set(filters.groups)):
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
            live = self.generation.live[row.key]
            if live.version <= self.generation.documents.rows[row.key].deleted_version:
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
