"""A run of the gate: asks both generations the same questions, one after the other, beside live traffic."""

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import msgspec
import structlog

from streams.errors import Transient, Unprocessable
from streams.operator.gate.bench import Asked, Bench
from streams.operator.gate.question import Question, golden
from streams.operator.gate.result import Result, report
from streams.operator.gate.verdict import Rule

PAUSE_S: Final = 0.02
KEPT_DAYS: Final = 30
"""As long as questions and scores are kept; a report quotes documents, which may be deleted meanwhile."""
UNKNOWN: Final = "none of its relevant documents is there"
_log = structlog.get_logger(__name__)


class Sets(msgspec.Struct, frozen=True, kw_only=True):
    """Which questions are asked. `logged` counts those of the log, chosen by chance among those of the day before.

    `shadowed` counts the newest that the candidate was asked unseen, whose results count as they are.
    """

    golden: bool = False
    logged: int = 0
    shadowed: int = 0
    labelled: list[Question] = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A gate that was asked for.

    Attributes:
        id: of it.
        candidate: generation that is to answer.
        base: generation that answers.
        tenant: whose key asked for it; the golden set is asked for this tenant.
        margin: of the rule.
        sets: what is asked.
    """

    id: str
    candidate: str
    base: str
    tenant: str
    margin: float
    sets: Sets


class GateStore(Protocol):
    """Gates that were asked for. Methods raise `Transient` when it is away."""

    def next(self) -> AbstractAsyncContextManager[Gate | None]:
        """Take the one that has waited longest, or whose worker died; a lease is renewed while the block runs.

        A block that raises gives it back: whoever asks next may take it.
        """
        ...

    async def logged(self, gate: Gate) -> Sequence[Question]:
        """Return the questions of the log: the same whenever it is asked, as long as the log keeps them."""
        ...

    async def shadowed(self, gate: Gate) -> Sequence[Result]:
        """Return the newest results of the candidate's shadow that has the same base."""
        ...

    async def known(self, tenant: str, documents: Collection[str]) -> Collection[str]:
        """Return those of the documents that are there, and not deleted."""
        ...

    async def results(self, id: str) -> Mapping[int, Result]:
        """Return what is kept, by the number of the question."""
        ...

    async def keep(self, id: str, number: int, result: Result) -> bool:
        """Keep the result of a question; the first one holds. False: the gate was cancelled."""
        ...

    async def progress(self, id: str, told: Mapping[str, Any]) -> None:
        """Say how far it is."""
        ...

    async def finish(self, id: str, report: Mapping[str, Any]) -> None:
        """It has a verdict; one that was cancelled stays so."""
        ...

    async def fail(self, id: str, why: str) -> None:
        """It cannot come to a verdict; one that was cancelled stays so."""
        ...

    async def forget(self) -> None:
        """Drop all texts of gates that ended `KEPT_DAYS` ago, or longer; their verdicts stay."""
        ...


@dataclass(frozen=True, kw_only=True)
class RunGates:
    """Carries out gates, one question at a time; what a killed worker measured is kept and not asked again.

    Attributes:
        gates: what was asked for.
        bench: asks generations.
        rule: the margin is the gate's own.
        pause_s: shortest pause after a generation was asked; it is as long as that took if that is longer.
    """

    gates: GateStore
    bench: Bench
    rule: Rule = field(default_factory=Rule)
    pause_s: float = PAUSE_S

    async def round(self) -> None:
        """Carry out all that wait, and forget what is old.

        Raises:
            Transient: a part is away, or a generation is not open here; another round goes on from there.
        """
        await self.gates.forget()
        while True:
            async with self.gates.next() as gate:
                if gate is None:
                    return
                try:
                    await self._carry_out(gate)
                except Transient:
                    raise
                except Unprocessable as error:
                    await self.gates.fail(gate.id, error.message)
                except Exception as error:
                    _log.exception("gate_failed", gate=gate.id)
                    await self.gates.fail(gate.id, f"{type(error).__name__}; see the log of the worker that ran it")

    async def _carry_out(self, gate: Gate) -> None:
        questions = await self._questions(gate)
        results = dict(await self.gates.results(gate.id))
        known = await self._known(questions)
        for number, question in enumerate(questions):
            if number in results:
                continue
            results[number] = await self._result(gate, question, known)
            if not await self.gates.keep(gate.id, number, results[number]):
                _log.info("gate_cancelled", gate=gate.id)
                return
            await self.gates.progress(gate.id, {"n_questions": len(questions), "n_asked": len(results)})
        rule = replace(self.rule, margin=gate.margin)
        asked = [results[number] for number in range(len(questions))]
        shadowed = await self.gates.shadowed(gate) if gate.sets.shadowed else []
        told = report(gate.candidate, gate.base, rule, [*asked, *shadowed])
        await self.gates.finish(gate.id, told)
        _log.info("gate_finished", gate=gate.id, candidate=gate.candidate, base=gate.base, verdict=told["verdict"])

    async def _questions(self, gate: Gate) -> list[Question]:
        found = list(gate.sets.labelled)
        if gate.sets.golden:
            found += golden(gate.tenant)
        if gate.sets.logged:
            found += await self.gates.logged(gate)
        return found

    async def _known(self, questions: Sequence[Question]) -> set[tuple[str, str]]:
        """Return (tenant, document) of all relevant documents that are there."""
        asked: dict[str, set[str]] = {}
        for question in questions:
            asked.setdefault(question.tenant, set()).update(question.relevant)
        return {
            (tenant, document)
            for tenant, documents in asked.items()
            if documents
            for document in await self.gates.known(tenant, documents)
        }

    async def _result(self, gate: Gate, question: Question, known: Collection[tuple[str, str]]) -> Result:
        if question.relevant and not any((question.tenant, document) in known for document in question.relevant):
            return Result.without(question, UNKNOWN)
        base = await self._ask(gate.base, question)
        candidate = await self._ask(gate.candidate, question)
        return Result.of(question, base, candidate)

    async def _ask(self, generation: str, question: Question) -> Asked:
        began = time.monotonic()
        asked = await self.bench.ask(generation, question)
        # live questions wait for the same process
        await asyncio.sleep(max(self.pause_s, time.monotonic() - began))
        return asked
