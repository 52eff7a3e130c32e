"""Restarts parts in good order, one after the other, under a load, and says what its clients noticed."""

import asyncio
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.local import stack as local
from tests.faults.checker import Verdict, check
from tests.faults.disturbing import await_ready, stop
from tests.faults.history import read
from tests.faults.load import Load
from tests.faults.run import HISTORY, WARM, writing_history
from tests.stack import Stack

PAUSE_S = 3.0
SETTLE_S = 120.0


@dataclass(frozen=True, kw_only=True)
class Rolled:
    """What a rolling restart did.

    Attributes:
        verdict: of the checker.
        errors: what clients were told that is no answer, and what became of questions that were not answered.
        resets: answers that began anew at another worker.
        stopped_s: how long each part took to stop, seconds.
        first_token_s, searchable_s: in the quiet before, and while parts were restarted, seconds.
    """

    verdict: Verdict
    errors: list[str]
    resets: int
    stopped_s: dict[str, float]
    first_token_s: tuple[list[float], list[float]]
    searchable_s: tuple[list[float], list[float]]

    def table(self) -> str:
        """Write the figures as text."""
        lines = [f"{part:<18}stopped in {seconds:5.1f} s" for part, seconds in self.stopped_s.items()]
        for name, (quiet, rolling) in (("first token", self.first_token_s), ("searchable", self.searchable_s)):
            lines.append(f"{name:<18}quiet {_quantiles(quiet)}; restarting {_quantiles(rolling)}")
        return "\n".join([*lines, f"errors {len(self.errors)}, answers that began anew {self.resets}"])


def roll(folder: Path, stack: Stack, parts: Sequence[str], tenant: str, *, quiet_s: float, seed: int = 1) -> Rolled:
    """Put a load on a stack, leave it alone for a while, then restart parts, each when the one before is back."""
    with writing_history(folder, stack, tenant, seed) as load:
        load.share_cut = load.share_cancelled = load.share_repeated = 0.0
        # what nobody waits for is seen only at the end, and says nothing of how soon it was searchable
        load.share_awaited = 1.0
        load.n_writers = load.n_askers = 2
        load.rest_s = 0.5
        asyncio.run(_rolled(stack, load, parts, quiet_s))
    return _judged(read(folder / HISTORY))


async def _rolled(stack: Stack, load: Load, parts: Sequence[str], quiet_s: float) -> None:
    working = asyncio.create_task(load.run())
    try:
        end = time.monotonic() + SETTLE_S
        while load.history.counts["visible"] < WARM and time.monotonic() < end:
            await _pause(working, 0.1)
        load.history.add("quiet_began")
        await _pause(working, quiet_s)
        load.history.add("rolling_began")
        for part in parts:
            before = local.pid_of(stack.home, part)
            await stop(stack, part, load.history)
            await await_ready(stack, part, before)
            await _pause(working, PAUSE_S)
    finally:
        load.stop.set()
        load.history.add("load_ended")
        await working
    await load.settle(SETTLE_S)
    await load.observe()


async def _pause(working: "asyncio.Task[None]", seconds: float) -> None:
    done, _ = await asyncio.wait([working], timeout=seconds)
    if done:
        await working
        raise AssertionError("the load ended by itself")


def _judged(entries: list[dict[str, Any]]) -> Rolled:
    at = {entry["kind"]: entry["at"] for entry in entries if entry["kind"].endswith(("_began", "load_ended"))}
    first, acknowledged = _firsts(entries, "ask", "reader"), _firsts(entries, "acknowledged", "op")
    tokens = _firsts([e for e in entries if e["kind"] == "event" and e["event"] == "token"], "event", "reader")
    visible = _firsts(entries, "visible", "op")

    def between(begin: dict[Any, float], end: dict[Any, float]) -> tuple[list[float], list[float]]:
        took = [(begin[name], end[name] - begin[name]) for name in begin if name in end]
        quiet = [s for began, s in took if at["quiet_began"] <= began < at["rolling_began"]]
        return quiet, [s for began, s in took if at["rolling_began"] <= began < at["load_ended"]]

    return Rolled(
        verdict=check(entries),
        errors=list(errors(entries)),
        resets=sum(entry["kind"] == "event" and entry["event"] == "reset" for entry in entries),
        stopped_s={entry["part"]: entry["seconds"] for entry in entries if entry["kind"] == "stopped"},
        first_token_s=between(first, tokens),
        searchable_s=between(acknowledged, visible),
    )


def _firsts(entries: Iterable[dict[str, Any]], kind: str, name: str) -> dict[Any, float]:
    found: dict[Any, float] = {}
    for entry in entries:
        if entry["kind"] == kind:
            found.setdefault(entry[name], entry["at"])
    return found


def errors(entries: Iterable[dict[str, Any]]) -> Iterable[str]:
    """Yield what clients were told that is no answer, and what became of questions that were not answered."""
    for entry in entries:
        if entry["kind"] in ("unacknowledged", "gave_up", "failed"):
            yield f"{entry['kind']}: {entry.get('why')}"
        elif entry["kind"] == "event" and entry["event"] in ("error", "cancelled"):
            yield f"{entry['event']}: {entry['data']}"


def _quantiles(values: list[float]) -> str:
    if len(values) < 2:
        return f"n={len(values)}"
    p99 = statistics.quantiles(values, n=100, method="inclusive")[98]
    return f"n={len(values)} p50 {statistics.median(values):.2f} s p99 {p99:.2f} s"
