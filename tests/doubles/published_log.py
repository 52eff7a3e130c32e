"""The documents topic in memory."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from schemas.ids import DocumentKey
from streams.intake.restored import Published


@dataclass(kw_only=True)
class MemoryDocumentLog:
    """`DocumentLog` of what was put into it."""

    records: list[Published] = field(default_factory=list)

    async def since(self, timestamp_ms: int) -> AsyncIterator[Published]:
        for record in self.records:
            if record.at_ms >= timestamp_ms:
                yield record

    async def newest(self) -> list[tuple[DocumentKey, int]]:
        return [(record.key, record.version) for record in self.records[-10:]]
