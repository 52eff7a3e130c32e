"""Verifications, and both sides that they compare, in memory."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from schemas.ids import DocumentKey
from streams.operator.drift import Difference, Logged, Stored
from streams.operator.verify import Verification


@dataclass(kw_only=True)
class MemoryVerifications:
    """`VerificationStore` over `asked`; those in `held` have a worker, which its lease is known by."""

    held: dict[str, object] = field(default_factory=dict)
    asked: list[Verification] = field(default_factory=list)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    findings: dict[str, list[Difference]] = field(default_factory=dict)
    reissued: set[str] = field(default_factory=set)
    ended: dict[str, str | None] = field(default_factory=dict)

    @asynccontextmanager
    async def next(self) -> AsyncIterator[Verification | None]:
        waiting = (each for each in self.asked if each.id not in self.ended and each.id not in self.held)
        asked, lease = next(waiting, None), object()
        if asked is not None:
            self.held[asked.id] = lease
        try:
            yield asked
        except BaseException:
            if asked is not None and self.held.get(asked.id) is lease:
                del self.held[asked.id]
            raise

    async def progress(self, id: str, told: Mapping[str, Any]) -> None:
        self.told.setdefault(id, {}).update(told)

    async def found(
        self, id: str, generation: str, differences: Sequence[Difference], *, seen_by: str, reissued: bool
    ) -> None:
        kept = self.findings.setdefault(id, [])
        kept += [each for each in differences if each not in kept]
        if reissued:
            self.reissued.add(id)

    async def finish(self, id: str, told: Mapping[str, Any], *, why: str | None = None) -> None:
        await self.progress(id, told)
        self.ended[id] = why


@dataclass(kw_only=True)
class MemoryLogSide:
    """`LogSide`; `looks` are what one look after the other sees."""

    looks: list[dict[DocumentKey, Logged]]
    behind: int = 0

    async def look(self) -> Mapping[DocumentKey, Logged]:
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    async def lag(self) -> int:
        return self.behind


@dataclass(kw_only=True)
class MemoryTableSide:
    """`TableSide`; `looks` are what one look after the other sees."""

    looks: list[dict[DocumentKey, Stored]]

    async def look(self, keys: Collection[DocumentKey] | None = None) -> Mapping[DocumentKey, Stored]:
        seen = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return seen if keys is None else {key: seen[key] for key in keys if key in seen}
