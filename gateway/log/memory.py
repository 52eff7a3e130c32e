"""The last records of one partition, bounded in bytes."""

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from backbone.kafka import Received
from schemas.codec import BLOB_HEADER, Record

_OVERHEAD_BYTES: Final = 350
"""What a record takes in memory beside its key and value: 230 where many share a key, 350 where none do."""

_offset = attrgetter("offset")


@dataclass(frozen=True, slots=True)
class Kept:
    """A record as it is kept: raw, of its headers only the name of a value that is in the object store."""

    partition: int
    offset: int
    key: bytes
    value: bytes | None
    blob: bytes | None

    @classmethod
    def of(cls, record: Received) -> "Kept":
        """Keep a record."""
        blob = next((value for name, value in record.headers if name == BLOB_HEADER), None)
        return cls(record.partition, record.offset, record.key or b"", record.value, blob)

    def wire(self) -> Record:
        """Return what `schemas.codec.decode` reads."""
        headers = {} if self.blob is None else {BLOB_HEADER: self.blob}
        return Record(key=self.key, value=self.value, headers=headers)

    @property
    def n_bytes(self) -> int:
        """Memory that it takes, roughly."""
        return len(self.key) + len(self.value or b"") + _OVERHEAD_BYTES


class Memory:
    """Every record from `first` on that was read, by group; the oldest make room for new ones.

    Attributes:
        first: nothing from here on is missing; None before anything was read.
        next: offset of the record that is read next.
    """

    def __init__(self, max_bytes: int) -> None:
        """Args:
        max_bytes: of all records together; at least the last one is kept.
        """
        self.first: int | None = None
        self.next = 0
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._all: deque[tuple[bytes, Kept]] = deque()
        self._by_group: dict[bytes, list[Kept]] = {}

    def start(self, offset: int) -> None:
        """Forget everything, and go on with the record at this offset."""
        self._all.clear()
        self._by_group.clear()
        self._n_bytes = 0
        self.first = self.next = offset

    def add(self, group: bytes, record: Kept) -> None:
        """Add the record that was read next."""
        if self.first is None:
            self.start(record.offset)
        self.next = record.offset + 1
        self._n_bytes += record.n_bytes
        self._all.append((group, record))
        self._by_group.setdefault(group, []).append(record)
        while self._n_bytes > self._max_bytes and len(self._all) > 1:
            self._forget_oldest()

    def after(self, group: bytes, offset: int) -> Kept | None:
        """Return the first record of a group from this offset on; None where there is none yet."""
        records = self._by_group.get(group, ())
        index = bisect_left(records, offset, key=_offset)
        return records[index] if index < len(records) else None

    def _forget_oldest(self) -> None:
        group, record = self._all.popleft()
        self._n_bytes -= record.n_bytes
        self.first = record.offset + 1
        records = self._by_group[group]
        del records[0]
        if not records:
            del self._by_group[group]
