"""Writing a sink as a function of a record."""

from dataclasses import dataclass, field

from schemas.events import DocumentEmbedded
from schemas.ids import DocumentKey
from streams.index_opensearch.handler import IndexOpensearch
from streams.runtime.record import Inbound, Origin
from tests.contract.factories import EAST, embedded, key_of


@dataclass
class MemorySink:
    """`Sink` that holds versions, and `SunkVersions` that only notes."""

    held: dict[DocumentKey, int] = field(default_factory=dict)
    told: list[tuple[str, int]] = field(default_factory=list)

    async def replace(self, document: DocumentEmbedded) -> bool:
        return await self.remove(key_of(document.document, tenant=document.tenant), document.version)

    async def remove(self, key: DocumentKey, version: int) -> bool:
        if self.held.get(key, 0) > version:
            return False
        self.held[key] = version
        return True

    async def sunk(self, key: DocumentKey, version: int) -> None:
        assert self.held[key] == version
        self.told.append((key.document, version))

    async def forget(self) -> int:
        return len(self.held)


async def test_what_the_sink_holds_is_noted_after_it_holds_it() -> None:
    sink = MemorySink()
    stage = IndexOpensearch(sink=sink, versions=sink)
    for event, version in ((embedded(2, {"one": EAST}), 2), (embedded(1, {"old": EAST}), 1), (None, 3)):
        record: Inbound[DocumentEmbedded] = Inbound(
            key=b"acme/guide",
            event=event,
            raw=None,
            origin=Origin(topic="rag.embeddings.g1.v1", topic_id="t1", partition=0, offset=0),
            timestamp_ms=500,
            version=version,
        )
        assert [each async for each in stage(record)] == []

    assert sink.told == [("guide", 2), ("guide", 3)]
