"""The figures of a fault run, read from its history: what was done, and how long readers noticed each kind of fault."""

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

Entry = dict[str, Any]
NUMBERED = re.compile(r"-\d+$")


@dataclass(frozen=True, kw_only=True)
class Stall:
    """The longest silence around the faults of one kind, seconds.

    Attributes:
        n: how many faults of this kind there were.
        documents_s: between two documents that became searchable.
        tokens_s: between the first tokens of two answers.
    """

    n: int
    documents_s: float
    tokens_s: float


def stalls(entries: Iterable[Entry]) -> dict[str, Stall]:
    """Return the worst stall per kind of fault.

    A silence counts for the last fault before it and for every one that it holds. The silence in which the load ends
    counts, too; none that begins later.
    """
    entries = list(entries)
    end = next((entry["at"] for entry in entries if entry["kind"] == "load_ended"), float("inf"))
    faults = [(entry["at"], _kind(entry)) for entry in entries if entry["kind"] in ("kill", "freeze")]
    documents = _worst(faults, [entry["at"] for entry in entries if entry["kind"] == "visible"], end)
    tokens = _worst(faults, _first_tokens(entries), end)
    counted = Counter(kind for _, kind in faults)
    return {kind: Stall(n=n, documents_s=documents[kind], tokens_s=tokens[kind]) for kind, n in sorted(counted.items())}


def table(entries: Iterable[Entry]) -> str:
    """Write the figures as one table of text."""
    entries = list(entries)
    lines = [f"{'fault':<24}{'times':>6}{'documents stall':>17}{'first tokens stall':>20}"]
    for kind, stall in stalls(entries).items():
        lines.append(f"{kind:<24}{stall.n:>6}{stall.documents_s:>15.1f} s{stall.tokens_s:>18.1f} s")
    before = {entry["part"]: entry for entry in entries if entry["kind"] == "gauge_before"}
    lines.append(f"{'part':<24}{'MB before':>11}{'MB after':>10}{'handles before':>16}{'after':>7}")
    for entry in (entry for entry in entries if entry["kind"] == "gauge"):
        first = before.get(entry["part"], entry)
        lines.append(
            f"{entry['part']:<24}{first['rss_bytes'] / 1e6:>11.0f}{entry['rss_bytes'] / 1e6:>10.0f}"
            f"{first['handles']:>16}{entry['handles']:>7}"
        )
    repeated = sum(entry["kind"] == "repeated" for entry in entries)
    waiting = sum(entry["records"] for entry in entries if entry["kind"] == "lag")
    wall_s = entries[-1]["at"] - entries[0]["at"] if entries else 0.0
    lines.append(f"records that were repeated: {repeated}, that wait at the end: {waiting}; wall time: {wall_s:.0f} s")
    return "\n".join(lines)


def _kind(entry: Entry) -> str:
    return f"{entry['kind']} {NUMBERED.sub('', entry['part'])}"


def _first_tokens(entries: Iterable[Entry]) -> list[float]:
    first: dict[str, float] = {}
    for entry in entries:
        if entry["kind"] == "event" and entry["event"] == "token":
            first.setdefault(entry["reader"], entry["at"])
    return sorted(first.values())


def _worst(faults: Sequence[tuple[float, str]], times: Sequence[float], end: float) -> dict[str, float]:
    worst: dict[str, float] = defaultdict(float)
    at = [moment for moment, _ in faults]
    for before, after in ((before, after) for before, after in pairwise(times) if before < end):
        first, last = bisect_right(at, before), bisect_right(at, after)
        for _, kind in faults[max(0, first - 1) : last]:
            worst[kind] = max(worst[kind], after - before)
    return worst
