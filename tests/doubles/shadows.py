"""Shadows of candidates, and a pair of generations that they ask, in memory."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.errors import Transient, Unprocessable
from streams.operator.gate.bench import Asked, Hit
from streams.operator.gate.question import Question
from streams.operator.gate.result import Result
from streams.operator.shadow import KEPT, LATE_S, SET, TAKEN_MAX, Shadow


@dataclass(kw_only=True)
class EndedQuestion:
    """A question as its row holds it; `age_s`: it ended so long ago."""

    query: str
    question: Question
    generation: str = "g1"
    outcome: str = "done"
    kind: str = "answer"
    age_s: float = 0.0


@dataclass(kw_only=True)
class ShadowRow:
    """A shadow as it is kept; `lapsed`: its worker is silent for too long."""

    shadow: Shadow
    state: str = "taken"
    n_taken: int = 1
    lapsed: bool = False
    result: Result | None = None


@dataclass(kw_only=True)
class MemoryShadows:
    """`ShadowStore` over `ended` questions; `shares` are those of candidates, `paused` ones rest; g1 answers.

    `since_s`: the share was given so long ago. `swept` are questions that were counted as dropped.
    """

    shares: dict[str, float] = field(default_factory=lambda: {"g2": 1.0})
    paused: set[str] = field(default_factory=set)
    since_s: float = 1e9
    ended: list[EndedQuestion] = field(default_factory=list)
    rows: dict[tuple[str, str], ShadowRow] = field(default_factory=dict)
    swept: set[tuple[str, str]] = field(default_factory=set)
    marks: dict[str, str] = field(default_factory=dict)
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def take(self, limit: int) -> Sequence[Shadow]:
        taken: list[Shadow] = []
        for row in self.rows.values():
            if len(taken) < limit and row.state == "taken" and row.lapsed and row.n_taken < TAKEN_MAX:
                row.n_taken, row.lapsed = row.n_taken + 1, False
                taken.append(row.shadow)
        for candidate, each in self._open():
            if len(taken) < limit and each.age_s <= LATE_S:
                shadow = Shadow(
                    candidate=candidate, base=each.generation, query=each.query, question=_as_asked(each.question)
                )
                self.rows[candidate, each.query] = ShadowRow(shadow=shadow)
                taken.append(shadow)
        return taken

    async def keep(self, shadow: Shadow, result: Result) -> bool:
        row = self.rows.get((shadow.candidate, shadow.query))
        if row is None or row.state != "taken":
            return False
        row.state, row.result = "done", result
        return True

    async def fail(self, shadow: Shadow, why: str) -> None:
        row = self.rows.get((shadow.candidate, shadow.query))
        if row is not None and row.state == "taken":
            row.state = "failed"

    async def give_back(self, shadow: Shadow) -> None:
        row = self.rows.get((shadow.candidate, shadow.query))
        if row is not None and row.state == "taken":
            del self.rows[shadow.candidate, shadow.query]

    async def sweep(self) -> tuple[int, int]:
        late = [(candidate, each.query) for candidate, each in self._open() if each.age_s > LATE_S + 10]
        self.swept |= set(late)
        dead = [row for row in self.rows.values() if row.state == "taken" and row.lapsed and row.n_taken >= TAKEN_MAX]
        for row in dead:
            row.state = "failed"
        for candidate in self.shares:
            settled = [key for key, row in self.rows.items() if key[0] == candidate and row.state != "taken"]
            for key in settled[:-KEPT]:
                del self.rows[key]
        return len(late), len(dead)

    async def unreported(self) -> Sequence[tuple[str, str, str]]:
        now: dict[str, int] = {}
        for (candidate, _), row in self.rows.items():
            if row.state != "taken" and row.shadow.base == "g1":
                now[candidate] = now.get(candidate, 0) + 1
        return [(candidate, "g1", str(n)) for candidate, n in now.items() if self.marks.get(candidate) != str(n)]

    async def results(self, candidate: str, base: str) -> tuple[Sequence[Result], int]:
        settled = [
            row
            for (name, _), row in reversed(self.rows.items())
            if name == candidate and row.shadow.base == base and row.state != "taken"
        ]
        results = [row.result for row in settled if row.result is not None]
        return results, len(settled) - len(results)

    async def report(self, candidate: str, mark: str, report: dict[str, Any]) -> None:
        self.marks[candidate], self.reports[candidate] = mark, report

    def _open(self) -> list[tuple[str, EndedQuestion]]:
        return [
            (candidate, each)
            for candidate, share in self.shares.items()
            if candidate not in self.paused
            for each in sorted(self.ended, key=lambda each: -each.age_s)
            if place(each.query) < share
            and (each.generation, each.outcome, each.kind) == ("g1", "done", "answer")
            and each.age_s <= self.since_s
            and (candidate, each.query) not in self.rows.keys() | self.swept
        ]


def place(query: str) -> float:
    """Return where the hash of a question's id stands, from 0 to 1: it is in each share above."""
    return int(hashlib.md5(query.encode(), usedforsecurity=False).hexdigest()[:8], 16) / 2**32


def _as_asked(question: Question) -> Question:
    return Question(set=SET, kind="logged", tenant=question.tenant, text=question.text, filters=question.filters)


@dataclass(kw_only=True)
class MemoryShadowBench:
    """`ShadowBench`; `found` are documents by generation and text, best first. The answer is the first one, and scores
    its `relevance`. Generations in `away` are not open."""

    found: dict[str, dict[str, list[str]]]
    relevance: dict[str, float] = field(default_factory=dict)
    away: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, Question]] = field(default_factory=list)

    async def ask(self, base: str, candidate: str, question: Question) -> tuple[Asked, Asked]:
        for generation in (base, candidate):
            if generation in self.away:
                raise Transient(f"index generation {generation!r} is not open in this worker")
            if generation not in self.found:
                raise Unprocessable("no_generation", f"there is no index generation {generation!r}")
        self.asked.append((base, candidate, question))
        return self._asked(base, question.text), self._asked(candidate, question.text)

    def _asked(self, generation: str, text: str) -> Asked:
        documents = self.found[generation].get(text, [])
        return Asked(
            hits=[Hit(document=name, chunk=f"{generation}:{name}", text=name, score=1.0) for name in documents],
            context=documents,
            answer=documents[0] if documents else "The documents do not say.",
            abstained=not documents,
            seconds=0.0,
            scores={"relevance": self.relevance[documents[0]]} if documents else {},
        )
