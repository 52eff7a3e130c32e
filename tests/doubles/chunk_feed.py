"""The chunks topic in memory, as the lexical view reads it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from schemas import codec
from streams.adapters.tantivy_view import FeedBatch

_POLL_S = 0.02


@dataclass(kw_only=True)
class MemoryFeed:
    """`Feed` on one list per partition, which holds (offset, record): offsets may have gaps, as after compaction.

    `ends` is where the next record goes, which a compacted tail leaves behind the last record.
    """

    identity: str = "topic-1"
    firsts: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    ends: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    log: dict[int, list[tuple[int, codec.Record]]] = field(default_factory=lambda: {0: [], 1: []})
    n_read: int = 0
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def append(self, record: codec.Record, partition: int = 0) -> None:
        """Write one record at the end of a partition."""
        self.log[partition].append((self.ends[partition], record))
        self.ends[partition] += 1
        self._arrived.set()

    async def topic_id(self) -> str:
        return self.identity

    async def bounds(self) -> Mapping[int, tuple[int, int]]:
        return {partition: (self.firsts[partition], self.ends[partition]) for partition in self.log}

    async def read(self, start: Mapping[int, int]) -> AsyncIterator[FeedBatch]:
        places = dict(start)
        while True:
            self._arrived.clear()
            records = []
            for partition, log in self.log.items():
                new = [record for offset, record in log if offset >= places[partition]]
                records += [(partition, record) for record in new]
                places[partition] = self.ends[partition]
            self.n_read += len(records)
            yield FeedBatch(records=records, next_offsets=dict(places))
            try:
                await asyncio.wait_for(self._arrived.wait(), _POLL_S)
            except TimeoutError:
                continue
