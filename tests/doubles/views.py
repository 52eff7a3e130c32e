"""Lexical views, what they tell of themselves, and what they are compared with, in memory."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from schemas.ids import DocumentKey
from streams.operator.drift import Difference
from streams.operator.views import Held, Served


@dataclass(kw_only=True)
class MemoryViews:
    """`Views`; `waiting` are verifications without an end, the first one has waited longest."""

    waiting: list[str] = field(default_factory=list)
    workers: set[str] = field(default_factory=set)
    answers: dict[str, dict[str, Sequence[Difference]]] = field(default_factory=dict)
    redone: set[str] = field(default_factory=set)

    async def alive(self) -> Collection[str]:
        return set(self.workers)

    async def answered(self, verification: str) -> Collection[str]:
        return set(self.answers.get(verification, {}))

    async def found(self, verification: str) -> Sequence[Difference]:
        found = [each for answer in self.answers.get(verification, {}).values() for each in answer]
        return sorted(found, key=lambda each: (each.key.tenant, each.key.document, each.kind))

    async def reissued(self, verification: str) -> None:
        self.redone.add(verification)


@dataclass(kw_only=True)
class MemoryViewReports:
    """`ViewReports` of one worker."""

    views: MemoryViews
    worker: str

    async def seen(self) -> None:
        self.views.workers.add(self.worker)

    async def next(self) -> str | None:
        asked = (each for each in self.views.waiting if self.worker not in self.views.answers.get(each, {}))
        return next(asked, None)

    async def answer(self, verification: str, differences: Sequence[Difference]) -> None:
        self.views.answers.setdefault(verification, {}).setdefault(self.worker, list(differences))


@dataclass(kw_only=True)
class MemoryServed:
    """`ServedDocuments` over `rows`."""

    rows: dict[DocumentKey, Served] = field(default_factory=dict)

    async def page(self, after: DocumentKey | None, limit: int) -> Sequence[tuple[DocumentKey, Served]]:
        ordered = sorted(self.rows, key=lambda key: (key.tenant, key.document.encode()))
        behind = [
            key for key in ordered if after is None or (key.tenant, key.document) > (after.tenant, after.document)
        ]
        return [(key, self.rows[key]) for key in behind[:limit]]


@dataclass(kw_only=True)
class MemoryView:
    """`OwnView` over `entries`; `later` are found once the end is reached."""

    entries: dict[DocumentKey, Held] = field(default_factory=dict)
    later: dict[DocumentKey, Held] = field(default_factory=dict)

    async def catch_up(self) -> None:
        """It can be searched."""

    async def reach_end(self) -> None:
        self.entries |= self.later

    async def held(self, keys: Collection[DocumentKey]) -> Mapping[DocumentKey, Held]:
        return {key: self.entries[key] for key in keys if key in self.entries}
