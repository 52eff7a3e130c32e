"""A topic in memory, and readers of it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Self

from confluent_kafka import KafkaError, KafkaException

from backbone.kafka import BEGIN, END, AtEnd, Last, MissingTopic, Overtaken, Received, Start

Headers = Sequence[tuple[str, bytes | None]]


class MemoryLog:
    """A topic whose partitions begin at these offsets. `opened` lists where its readers were started.

    While `away`, readers that are open wait, and none can be opened.
    """

    def __init__(self, topic: str, first: Mapping[int, int]) -> None:
        self.topic = topic
        self.first = dict(first)
        self.records: dict[int, list[Received]] = {partition: [] for partition in first}
        self.opened: list[dict[int, Start]] = []
        self.away = False
        self._waiting: list[asyncio.Future[None]] = []

    def end(self, partition: int) -> int:
        """Offset of the next record."""
        records = self.records[partition]
        return records[-1].offset + 1 if records else self.first[partition]

    def append(self, partition: int, key: bytes | None, value: bytes | None, headers: Headers = ()) -> int:
        """Add a record and return its offset."""
        offset = self.end(partition)
        self.records[partition].append(
            Received(
                topic=self.topic,
                partition=partition,
                offset=offset,
                key=key,
                value=value,
                headers=headers,
                timestamp_ms=0,
            )
        )
        self.changed()
        return offset

    def delete_before(self, partition: int, offset: int) -> None:
        """Forget the records before an offset."""
        self.records[partition] = [each for each in self.records[partition] if each.offset >= offset]
        self.first[partition] = max(self.first[partition], offset)
        self.changed()

    def changed(self) -> None:
        """Let readers look again."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        self._waiting.clear()

    async def wait(self) -> None:
        """Wait for a change."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def open(self, starts: Mapping[int, Start]) -> "MemoryReader":
        """Make a reader."""
        self.opened.append(dict(starts))
        return MemoryReader(self, starts)


class MemoryReader:
    """`backbone.kafka.PartitionReader` on a `MemoryLog`."""

    def __init__(self, log: MemoryLog, starts: Mapping[int, Start]) -> None:
        self._log = log
        self._starts = starts
        self._places: dict[int, int] = {}
        self._told_end: dict[int, int] = {}

    async def __aenter__(self) -> Self:
        await self.add(self._starts)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._places.clear()

    @property
    def partitions(self) -> frozenset[int]:
        return frozenset(self._places)

    async def add(self, starts: Mapping[int, Start]) -> None:
        if self._log.away:
            raise KafkaException(KafkaError(KafkaError._TRANSPORT))
        missing = sorted(set(starts) - set(self._log.records))
        if missing:
            raise MissingTopic(
                f"topic {self._log.topic!r} has partitions 0 to {len(self._log.records) - 1}, not {missing!r}"
            )
        for partition, start in starts.items():
            self._places[partition] = self._place(partition, start)
            self._told_end.pop(partition, None)
        self._log.changed()

    def drop(self, partition: int) -> None:
        self._places.pop(partition, None)

    async def __aiter__(self) -> AsyncIterator[Received | AtEnd | Overtaken]:
        while True:
            item = None if self._log.away else self._next()
            if item is None:
                await self._log.wait()
            else:
                yield item

    def _place(self, partition: int, start: Start) -> int:
        end = self._log.end(partition)
        match start:
            case Last(n_records=n):
                return max(0, end - n)
            case int():
                return start
            case _:
                return {BEGIN: self._log.first[partition], END: end}[start]

    def _next(self) -> Received | AtEnd | Overtaken | None:
        for partition, place in self._places.items():
            first, end = self._log.first[partition], self._log.end(partition)
            if not first <= place <= end:
                self._places[partition] = first
                return Overtaken(partition=partition, resumed=first)
            if place < end:
                self._places[partition] = place + 1
                records = self._log.records[partition]
                return records[place - records[0].offset]
            if self._told_end.get(partition) != end:
                self._told_end[partition] = end
                return AtEnd(partition=partition, offset=end)
        return None
