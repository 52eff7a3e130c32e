"""A long run at moderate load: some parts are killed again and again, and what the others hold must not grow.

`python -m tests.faults.soak --minutes 60` runs it by hand, as `make soak` does; 1 when an invariant was violated or a
part grew.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.faults.checker import report
from tests.faults.figures import table
from tests.faults.history import read
from tests.faults.run import HISTORY, Plan, execute, slowly_answering

KILLED = ("worker-ingest-1", "worker-query-1", "gateway", "postgres", "valkey")
"""The others live through the whole run, so that it shows whether they grow."""
PAUSE_S = (20.0, 40.0)
REST_S = 6.0
GAUGED_EVERY_S = 15.0
WHOLE_HEAP = "-Xms256m -XX:+AlwaysPreTouch"
"""A Java heap fills up to its limit before much is collected, which takes Kafka most of an hour and looks like growth.
So it is taken whole from the beginning, and what grows then is no heap; a heap that is too small ends the process."""
GROWTH_MAX = 1.15
"""Median of the last quarter of the run over that of its second quarter, of memory and of open handles."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """What one part held, medians of the second and of the last quarter of the run.

    Attributes:
        part: its name.
        n: how often it was looked at.
        memory: bytes, children included.
        handles: open files, sockets and the like.
    """

    part: str
    n: int
    memory: tuple[float, float]
    handles: tuple[float, float]

    @property
    def grew(self) -> bool:
        """Whether one of them rose by more than GROWTH_MAX allows."""
        return any(last > GROWTH_MAX * second for second, last in (self.memory, self.handles))


def growths(entries: Iterable[dict[str, Any]]) -> list[Growth]:
    """Return the growth of each part that lived through a run, from its history.

    Raises:
        ValueError: a part was looked at less often than eight times, which says nothing about growth.
    """
    seen: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        if entry["kind"] == "gauge_during":
            seen[entry["part"]].append(entry)
    lived = {part: gauges for part, gauges in seen.items() if not _began_anew(gauges)}
    return [_growth(part, gauges) for part, gauges in sorted(lived.items())]


def restarted(entries: Iterable[dict[str, Any]]) -> list[str]:
    """Return the parts that nobody killed and that began anew all the same."""
    seen: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for entry in entries:
        if entry["kind"] == "gauge_during" and entry["part"] not in KILLED:
            seen[entry["part"]].append(entry)
    return sorted(part for part, gauges in seen.items() if _began_anew(gauges))


def _began_anew(gauges: list[dict[str, Any]]) -> bool:
    return any(after["uptime_s"] < before["uptime_s"] for before, after in pairwise(gauges))


def _growth(part: str, gauges: list[dict[str, Any]]) -> Growth:
    quarter = len(gauges) // 4
    if quarter < 2:
        raise ValueError(f"{part} was looked at {len(gauges)} times; expected 8 at least: let the run take longer")

    def medians(name: str) -> tuple[float, float]:
        values = [float(entry[name]) for entry in gauges]
        return statistics.median(values[quarter : 2 * quarter]), statistics.median(values[-quarter:])

    return Growth(part=part, n=len(gauges), memory=medians("rss_bytes"), handles=medians("handles"))


def main() -> int:
    """Run by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--folder", type=Path, default=None, help="keeps the history and the logs")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="headrace-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    n_kills = max(1, round(arguments.minutes * 60 / statistics.mean(PAUSE_S)))
    plan = Plan(
        seed=arguments.seed,
        n_kills=n_kills,
        targets=KILLED,
        pause_s=PAUSE_S,
        rest_s=REST_S,
        gauged_every_s=GAUGED_EVERY_S,
    )
    # of the options that Java takes from the environment, the only ones that win over a command line
    os.environ["_JAVA_OPTIONS"] = WHOLE_HEAP
    with slowly_answering(folder / "home") as stack:
        verdict = execute(folder, plan, stack)
    entries = read(folder / HISTORY)
    found = growths(entries)
    print(f"{table(entries)}\n{report(verdict)}")
    print(f"{'part that lived':<24}{'MB 2nd quarter':>16}{'last':>8}{'handles':>10}{'last':>6}")
    for each in found:
        (memory, memory_last), (handles, handles_last) = each.memory, each.handles
        print(
            f"{each.part:<24}{memory / 1e6:>16.1f}{memory_last / 1e6:>8.1f}{handles:>10.0f}{handles_last:>6.0f}"
            f"{'  GREW' if each.grew else ''}"
        )
    died = restarted(entries)
    print(f"began anew though nobody killed them: {', '.join(died) or 'none'}")
    print(f"seed {arguments.seed}, history {folder / HISTORY}")
    return 1 if verdict.violations or died or any(each.grew for each in found) else 0


if __name__ == "__main__":
    sys.exit(main())
