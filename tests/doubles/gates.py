"""Gates, and generations that they ask, in memory."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from streams.errors import Transient, Unprocessable
from streams.operator.gate.bench import Asked, Hit
from streams.operator.gate.question import Question
from streams.operator.gate.result import Result
from streams.operator.gate.run import Gate


@dataclass(kw_only=True)
class MemoryGates:
    """`GateStore` over `asked`; those in `held` have a worker. `log`, `shadows` (candidate, base and result,
    the oldest first) and `documents` are what else Postgres holds.

    Those in `old` ended long ago."""

    asked: list[Gate] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    log: list[Question] = field(default_factory=list)
    shadows: list[tuple[str, str, Result]] = field(default_factory=list)
    documents: set[tuple[str, str]] = field(default_factory=set)
    kept: dict[str, dict[int, Result]] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)
    reports: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    ended: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    old: set[str] = field(default_factory=set)

    @asynccontextmanager
    async def next(self) -> AsyncIterator[Gate | None]:
        waiting = (each for each in self.asked if each.id not in self.ended and each.id not in self.held)
        gate = next(waiting, None)
        if gate is None:
            yield None
            return
        self.held.add(gate.id)
        try:
            yield gate
        except BaseException:
            self.held.discard(gate.id)
            raise

    async def logged(self, gate: Gate) -> Sequence[Question]:
        return self.log[: gate.sets.logged]

    async def shadowed(self, gate: Gate) -> Sequence[Result]:
        newest = reversed(self.shadows)
        pair = [each for candidate, base, each in newest if (candidate, base) == (gate.candidate, gate.base)]
        return pair[: gate.sets.shadowed]

    async def known(self, tenant: str, documents: Collection[str]) -> Collection[str]:
        return {document for document in documents if (tenant, document) in self.documents}

    async def results(self, id: str) -> Mapping[int, Result]:
        return self.kept.get(id, {})

    async def keep(self, id: str, number: int, result: Result) -> bool:
        if id in self.ended:
            return False
        self.kept.setdefault(id, {}).setdefault(number, result)
        return True

    async def progress(self, id: str, told: Mapping[str, Any]) -> None:
        self.told.setdefault(id, {}).update(told)

    async def finish(self, id: str, report: Mapping[str, Any]) -> None:
        if id not in self.ended:
            self.ended[id], self.reports[id] = ("finished", None), report

    async def fail(self, id: str, why: str) -> None:
        self.ended.setdefault(id, ("failed", why))

    async def forget(self) -> None:
        for id in self.old & self.ended.keys():
            self.kept.pop(id, None)
            self.reports.pop(id, None)


@dataclass(kw_only=True)
class MemoryBench:
    """`Bench`; `found` maps generation and text of a question to documents, best first, whose text is their name.

    Those in `away` are not open.
    """

    found: dict[str, dict[str, list[str]]]
    away: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)

    async def ask(self, generation: str, question: Question) -> Asked:
        if generation in self.away:
            raise Transient(f"index generation {generation!r} is not open in this worker")
        if generation not in self.found:
            raise Unprocessable("no_generation", f"there is no index generation {generation!r}")
        self.asked.append((generation, question.text))
        documents = self.found[generation].get(question.text, [])
        hits = [
            Hit(document=name, chunk=f"{generation}:{name}", text=name, score=1 / place)
            for place, name in enumerate(documents, start=1)
        ]
        answer = documents[0] if documents else "The documents do not say."
        return Asked(hits=hits, context=documents, answer=answer, abstained=not documents, seconds=0.0)
