"""Rebuilds in memory: as the gateway sees them, as the operator stage does, and what they are of."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import uuid_utils

from schemas.events import DocumentEmbedded
from schemas.ids import DocumentKey, parse_document_key
from streams.operator.rebuild import Embedded, Rebuild

_OPEN = ("asked", "running")
_SHOWN = ("id", "generation", "sink", "state", "why", "progress", "asked_at", "began_at", "finished_at")


@dataclass(kw_only=True)
class MemoryRebuildRows:
    """`RebuildRows` and `RebuildStore` on the same rows, the oldest first."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    async def ask(self, generation: str, *, sink: str, asked_by: str) -> Mapping[str, Any] | None:
        if any((row["generation"], row["sink"]) == (generation, sink) and row["state"] in _OPEN for row in self.rows):
            return None
        row: dict[str, Any] = {"id": str(uuid_utils.uuid7()), "generation": generation, "sink": sink}
        row |= {"asked_by": asked_by, "state": "asked", "why": None, "progress": {}, "next": {}, "taken": False}
        row |= {"asked_at": datetime.now(UTC), "began_at": None, "finished_at": None}
        self.rows.append(row)
        return _shown(row)

    async def find(self, id: str) -> Mapping[str, Any] | None:
        return next((_shown(row) for row in self.rows if row["id"] == id), None)

    async def latest(self, limit: int) -> Sequence[Mapping[str, Any]]:
        return [_shown(row) for row in reversed(self.rows)][:limit]

    @asynccontextmanager
    async def next(self) -> AsyncIterator[Rebuild | None]:
        row = next((row for row in self.rows if row["state"] in _OPEN and not row["taken"]), None)
        if row is None:
            yield None
            return
        row |= {"state": "running", "taken": True, "began_at": row["began_at"] or datetime.now(UTC)}
        try:
            yield Rebuild(
                id=row["id"],
                generation=row["generation"],
                sink=row["sink"],
                next_offsets=dict(row["next"]),
                progress=dict(row["progress"]),
            )
        finally:
            row["taken"] = False

    async def progress(self, id: str, told: Mapping[str, Any], next_offsets: Mapping[int, int]) -> None:
        row = self._running(id)
        if row is not None:
            row["progress"] |= dict(told)
            row["next"] |= dict(next_offsets)

    async def finish(self, id: str, told: Mapping[str, Any], *, why: str | None = None) -> None:
        row = self._running(id)
        if row is not None:
            row["progress"] |= dict(told)
            row |= {"state": "finished" if why is None else "failed", "why": why, "finished_at": datetime.now(UTC)}

    def _running(self, id: str) -> dict[str, Any] | None:
        return next((row for row in self.rows if row["id"] == id and row["state"] == "running"), None)


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _SHOWN}


@dataclass(kw_only=True)
class MemoryEmbeddings:
    """`Embeddings` of one partition. `breaks_at`: the offset at which a read raises `error`, once."""

    records: list[tuple[str, int, DocumentEmbedded | None]] = field(default_factory=list)
    breaks_at: int | None = None
    error: Exception = field(default_factory=Exception)
    n_read: int = 0

    async def ends(self) -> Mapping[int, int]:
        return {0: len(self.records)}

    async def read(self, start: Mapping[int, int], ends: Mapping[int, int]) -> AsyncIterator[Embedded]:
        for offset in range(start.get(0, 0), ends[0]):
            if offset == self.breaks_at:
                self.breaks_at = None
                raise self.error
            key, version, event = self.records[offset]
            self.n_read += 1
            yield Embedded(
                partition=0,
                offset=offset,
                key=parse_document_key(key.encode()),
                version=version,
                event=event,
                why="not JSON" if key.endswith("bad") else None,
            )


@dataclass(kw_only=True)
class MemoryRebuilt:
    """`Rebuilt`. `live`: the versions that are live."""

    live: dict[str, int] = field(default_factory=dict)
    held: dict[str, DocumentEmbedded] = field(default_factory=dict)
    prepared: int = 0

    async def prepare(self) -> None:
        self.prepared += 1

    async def put(self, event: DocumentEmbedded) -> bool:
        key = f"{event.tenant}/{event.document}"
        if self.live.get(key, 0) > event.version:
            return False
        self.held[key] = event
        return True

    async def remove(self, key: DocumentKey, version: int) -> bool:
        self.held.pop(str(key), None)
        return True

    async def finish(self) -> int:
        return len(self.live.keys() - self.held.keys())


@dataclass(kw_only=True)
class MemoryRebuiltViews:
    """`Views`: workers, those of them that go away when they are told, and who was told in which order."""

    workers: list[str] = field(default_factory=list)
    leaving: set[str] = field(default_factory=set)
    told: list[str] = field(default_factory=list)

    async def alive(self) -> list[str]:
        return list(self.workers)

    async def rebuild(self, worker: str, id: str) -> bool:
        self.told.append(worker)
        return worker not in self.leaving
