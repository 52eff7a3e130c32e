"""The shadow of a candidate: a share of the questions that were answered is asked of it as well, scored, never shown.

Questions come from their rows, after their end, so nobody waits for a shadow and nothing of it reaches a reader. Each
is asked of both generations at one time, with the same answerer, so that documents that changed meanwhile and a
language model that writes the live answers make no difference between them.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final, Literal, Protocol

import numpy as np
import structlog

from streams.errors import Transient, Unprocessable
from streams.operator.gate.bench import Asked
from streams.operator.gate.bootstrap import resample
from streams.operator.gate.question import Question
from streams.operator.gate.result import Result
from streams.operator.gate.verdict import Rule

BATCH: Final = 4
LATE_S: Final = 60.0
"""A question that no worker took for so long is dropped: a candidate that cannot keep up is asked fewer."""
TAKEN_MAX: Final = 2
"""A question whose workers died so often is given up: it may be what kills them."""
KEPT: Final = 2_000
"""Shadows of a candidate that are kept, and reported: the newest."""
KEPT_DAYS: Final = 30
PAUSE_S: Final = 0.02
SET: Final = "shadowed"
SCORED: Final = ("relevance", "faithfulness", "answered")
LIKENESS: Final = ("overlap", "agreement")
Outcome = Literal["shadowed", "dropped", "failed"]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadow:
    """A question that a candidate is asked.

    Attributes:
        candidate: generation that is asked.
        base: generation that answered the reader.
        query: the reader's question.
        question: its text, with the tenant, groups and conditions of whoever asked.
    """

    candidate: str
    base: str
    query: str
    question: Question


class ShadowBench(Protocol):
    """Asks a pair of generations as readers would, and shows nothing to anybody."""

    async def ask(self, base: str, candidate: str, question: Question) -> tuple[Asked, Asked]:
        """Ask one question of both; the asker's rights hold. Both have scores, on one scale.

        Raises:
            Transient: one of them is not open here, or a part is away.
            Unprocessable: one of them does not exist.
        """
        ...


class ShadowStore(Protocol):
    """Shadows of candidates. Methods raise `Transient` when it is away."""

    async def take(self, limit: int) -> Sequence[Shadow]:
        """Take questions that ended as done in the last `LATE_S`, of the share of each candidate, the oldest first.

        Those of a worker that is silent for longer than a lease are taken again, but no more often than `TAKEN_MAX`.
        """
        ...

    async def keep(self, shadow: Shadow, result: Result) -> bool:
        """Keep what became of one; the first result holds. False: there is one."""
        ...

    async def fail(self, shadow: Shadow, why: str) -> None:
        """Give one up that is taken."""
        ...

    async def give_back(self, shadow: Shadow) -> None:
        """Let another worker take it, or this one later."""
        ...

    async def sweep(self) -> tuple[int, int]:
        """Count what nobody took in time, give up what killed its workers, and drop what is old.

        Returns:
            How many were dropped and how many failed, each counted by one sweep alone.
        """
        ...

    async def unreported(self) -> Sequence[tuple[str, str, str]]:
        """Return candidate, base and mark of the shadows that have changed since they were reported."""
        ...

    async def results(self, candidate: str, base: str) -> tuple[Sequence[Result], int]:
        """Return the results of a pair, the newest first, and how many of its questions failed."""
        ...

    async def report(self, candidate: str, mark: str, report: dict[str, Any]) -> None:
        """Keep what is told of a candidate."""
        ...


@dataclass(frozen=True, kw_only=True)
class RunShadows:
    """Asks what is taken, one question at a time, beside live questions.

    Attributes:
        shadows: what is to be asked.
        bench: asks.
        counted: told what became of questions, and of how many.
        pause_s: shortest pause after a question; it is as long as the question took if that is longer.
    """

    shadows: ShadowStore
    bench: ShadowBench
    counted: Callable[[Outcome, int], None] = lambda outcome, n: None
    pause_s: float = PAUSE_S

    async def round(self) -> None:
        """Ask all that is due.

        Raises:
            Transient: a part is away, or a generation is not open here; what was taken is given back.
        """
        while True:
            n_dropped, n_failed = await self.shadows.sweep()
            self._count("dropped", n_dropped)
            self._count("failed", n_failed)
            taken = await self.shadows.take(BATCH)
            for number, shadow in enumerate(taken):
                try:
                    await self._ask(shadow)
                except Transient:
                    for each in taken[number:]:
                        await self.shadows.give_back(each)
                    raise
            if not taken:
                return

    async def _ask(self, shadow: Shadow) -> None:
        try:
            base, candidate = await self.bench.ask(shadow.base, shadow.candidate, shadow.question)
        except Transient:
            raise
        except Unprocessable as error:
            await self._fail(shadow, error.message)
            return
        except Exception as error:
            _log.exception("shadow_failed", generation=shadow.candidate, query=shadow.query)
            await self._fail(shadow, f"{type(error).__name__}; see the log of the worker that asked it")
            return
        if await self.shadows.keep(shadow, Result.of(shadow.question, base, candidate)):
            self._count("shadowed", 1)
        await asyncio.sleep(max(self.pause_s, base.seconds + candidate.seconds))

    async def _fail(self, shadow: Shadow, why: str) -> None:
        await self.shadows.fail(shadow, why)
        self._count("failed", 1)

    def _count(self, outcome: Outcome, n: int) -> None:
        if n:
            self.counted(outcome, n)


@dataclass(frozen=True, kw_only=True)
class ReportShadows:
    """Says of each candidate how it compares, where that has changed."""

    shadows: ShadowStore

    async def round(self) -> None:
        """Report all that has changed.

        Raises:
            Transient: the store is away.
        """
        for candidate, base, mark in await self.shadows.unreported():
            results, n_failed = await self.shadows.results(candidate, base)
            told = await asyncio.to_thread(summary, base, results, n_failed)
            await self.shadows.report(candidate, mark, told)


def summary(base: str, results: Sequence[Result], n_failed: int = 0, rule: Rule | None = None) -> dict[str, Any]:
    """Say how a candidate compares with the generation that answers.

    Returns:
        JSON values: `base`, `n`, `n_failed`, `confidence`; the means `overlap` and `agreement`, None of none; and
        `measures`, each with `name`, `n`, the means `base` and `candidate`, their `difference`, and its bounds `low`
        and `high`, one-sided. A measure that one side has not is left out of it: there are no scores of an abstention.
    """
    rule = rule or Rule()
    measures = [_measure(name, pairs, rule) for name in SCORED if (pairs := _pairs(results, name))]
    likeness = {
        name: _rounded(fmean(each.likeness[name] for each in results)) if results else None for name in LIKENESS
    }
    told = {"base": base, "n": len(results), "n_failed": n_failed, "confidence": rule.confidence}
    return told | likeness | {"measures": measures}


def _pairs(results: Sequence[Result], name: str) -> list[tuple[float, float]]:
    sides = [(each.base, each.candidate) for each in results]
    return [
        (base.measures[name], candidate.measures[name])
        for base, candidate in sides
        if base is not None and candidate is not None and name in base.measures and name in candidate.measures
    ]


def _measure(name: str, pairs: Sequence[tuple[float, float]], rule: Rule) -> dict[str, Any]:
    values = np.asarray(pairs, np.float64)
    resampled = resample(values[:, 1] - values[:, 0], rule.resamples, rule.seed)
    error = 1 - rule.confidence
    base, candidate = values.mean(axis=0)
    return {
        "name": name,
        "n": len(pairs),
        "base": _rounded(base),
        "candidate": _rounded(candidate),
        "difference": _rounded(resampled.mean),
        "low": _rounded(resampled.low(error)),
        "high": _rounded(resampled.high(error)),
    }


def _rounded(value: float) -> float:
    return round(float(value), 4)
