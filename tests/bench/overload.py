"""What a stack does when three times as many questions come as it can answer: `python -m tests.bench.overload`.

First the capacity (as many callers at a time as answer most), then an ordinary day at 60 % of it, then the rush:
questions come at random moments, and whoever is refused comes again after the stated `Retry-After`. Every question is a
new one, so no vector is remembered. Load generator and stack share the cores, so all figures are for both together.
"""

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import uvloop

from headrace.local import stack as local
from tests.bench.__main__ import ROOT, corpus, ingest
from tests.bench.wire import Wire
from tests.stack import Stack, running

WORDS = ("queue", "topic", "lease", "offset", "tenant", "vector", "chunk", "stage")


def question(n: int) -> dict[str, str]:
    """A question that was not asked before."""
    return {"query": f"What does the {WORDS[n % 8]} say about the {WORDS[n // 8 % 8]} of number {n}?"}


@dataclass(kw_only=True)
class Tally:
    """What became of the questions of one phase.

    Attributes:
        seconds: from sending an accepted question to its answer, in the order of the ends.
        came: callers, by how often they were refused before; `let_in`: those of them who were let in.
        told_s: `Retry-After` of the refusals.
        others: responses that are neither an answer nor a refusal, by status.
    """

    seconds: list[float] = field(default_factory=list)
    came: Counter[int] = field(default_factory=Counter)
    let_in: Counter[int] = field(default_factory=Counter)
    told_s: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    refusal_seconds: list[float] = field(default_factory=list)


@dataclass(kw_only=True)
class Load:
    """Asks a gateway.

    Attributes:
        patience: how often a refused caller comes again.
        keys: send an Idempotency-Key with every question.
    """

    wire: Wire
    patience: int = 0
    keys: bool = False
    n: int = 0
    tally: Tally = field(default_factory=Tally)
    over: bool = False
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    async def closed(self, n_callers: int, for_s: float) -> float:
        """Let so many callers ask one question after the other; return the answers per second."""
        until_s, before = time.perf_counter() + for_s, len(self.tally.seconds)

        async def caller() -> None:
            while time.perf_counter() < until_s:
                await self._ask()

        await asyncio.gather(*(caller() for _ in range(n_callers)))
        return (len(self.tally.seconds) - before) / for_s

    async def open(self, per_s: float, for_s: float) -> None:
        """Let questions come at random moments, however many are waiting."""
        at_s = time.perf_counter()
        until_s = at_s + for_s
        while (at_s := at_s + random.expovariate(per_s)) < until_s:
            await asyncio.sleep(max(0.0, at_s - time.perf_counter()))
            task = asyncio.create_task(self._ask())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Send nobody any more, and wait for those who are answered."""
        self.over = True
        for task in list(self._tasks):
            if task.get_name() == "returning":
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.over = False

    async def _ask(self) -> None:
        self.n += 1
        body, tally = question(self.n), self.tally
        headers = f"Idempotency-Key: {self.n}-{os.getpid()}\r\n" if self.keys else ""
        task = asyncio.current_task()
        assert task is not None
        for refusals in range(self.patience + 1):
            began_s = time.perf_counter()
            tally.came[refusals] += 1
            try:
                response = await self.wire.post("/v1/query", body, headers)
            except (OSError, asyncio.IncompleteReadError) as error:
                tally.others[type(error).__name__] += 1
                return
            took_s = time.perf_counter() - began_s
            if response.status == 200:
                tally.seconds.append(took_s)
                tally.let_in[refusals] += 1
                return
            if response.status != 429:
                kind = json.loads(response.body).get("type", "?").rpartition(":")[2]
                tally.others[f"{response.status} {kind}"] += 1
                return
            tally.refusal_seconds.append(took_s)
            after_s = float(response.headers["retry-after"])
            tally.told_s.append(after_s)
            if self.over:
                return
            task.set_name("returning")
            await asyncio.sleep(after_s)
            task.set_name("asking")


def quantile(values: list[float], q: float) -> float:
    """The quantile q of values in any order; nan where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")


def milliseconds(values: list[float]) -> str:
    """Median and 95th percentile."""
    return f"p50 {quantile(values, 0.5) * 1000:.0f} ms, p95 {quantile(values, 0.95) * 1000:.0f} ms, n={len(values)}"


def rss_mib(stack: Stack) -> float:
    """Memory of the gateway."""
    return psutil.Process(local.pid_of(stack.home, "gateway")).memory_info().rss / 1024**2


def admission(stack: Stack) -> list[str]:
    """What the gateway says of its admission."""
    page = httpx.get(f"{stack.url}/metrics", timeout=60).text.splitlines()
    names = ("headrace_admission", "headrace_promise")
    told = (line.removeprefix("headrace_") for line in page if line.startswith(names))
    return [line for line in told if "_created" not in line and 'kind="search"' not in line]


async def measure(stack: Stack, arguments: argparse.Namespace) -> None:
    """Run the phases and print."""
    wire = Wire(url=stack.url, key="acme-key")
    load = Load(wire=wire, keys=arguments.keys)
    await load.closed(2, 5)
    rates = {n: await load.closed(n, arguments.ramp_s) for n in (1, 2, 4, 8)}
    capacity = max(rates.values())
    print(f"capacity:               {capacity:.1f} answers/s; by callers at a time: {show(rates)}")
    print(f"one caller:             {1000 / rates[1]:.1f} ms a question")

    load.tally = Tally()
    await asyncio.sleep(2)
    await load.open(0.6 * capacity, arguments.normal_s)
    await load.end()
    normal = load.tally
    print(
        f"60 % of that:           {milliseconds(normal.seconds)}, refused {len(normal.told_s)}, {dict(normal.others)}"
    )

    load.tally, load.patience = Tally(), arguments.patience
    before, began_s = rss_mib(stack), time.perf_counter()
    await load.open(arguments.factor * capacity, arguments.rush_s)
    rush_s, in_time = time.perf_counter() - began_s, len(load.tally.seconds)
    if arguments.wait_s:
        await asyncio.sleep(arguments.wait_s)
    after, door = rss_mib(stack), admission(stack)
    await load.end()
    rush, p95 = load.tally, quantile(load.tally.seconds, 0.95)
    print(
        f"{arguments.factor:g} x capacity, {rush_s:.0f} s:    {milliseconds(rush.seconds)}, others {dict(rush.others)}"
    )
    print(f"goodput / capacity:     {in_time / rush_s / capacity:.2f} (bar >= 0.8)")
    print(f"p95 / p95 at 60 %:      {p95 / quantile(normal.seconds, 0.95):.2f} (bar <= 2)")
    print(f"let in when first asked: {rush.let_in[0]} of {rush.came[0]}")
    if rush.came[1]:
        share = rush.let_in[1] / rush.came[1]
        print(f"let in at first return: {rush.let_in[1]} of {rush.came[1]} = {share:.3f} (bar >= 0.9)")
    longest_s = max(rush.told_s, default=0)
    print(f"refusals:               {milliseconds(rush.refusal_seconds)}; Retry-After up to {longest_s:.0f} s")
    print(f"gateway RSS:            {before:.0f} MiB before, {after:.0f} MiB after")
    print("at the door:            " + ", ".join(door))


def show(rates: dict[int, float]) -> str:
    """Rates by callers."""
    return ", ".join(f"{n}: {rate:.1f}" for n, rate in rates.items())


def main() -> None:
    """Start a stack, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--factor", type=float, default=3.0, help="how many times the capacity comes in the rush")
    parser.add_argument("--rush-s", type=float, default=60.0)
    parser.add_argument("--normal-s", type=float, default=30.0)
    parser.add_argument("--ramp-s", type=float, default=8.0, help="of each step of the capacity ramp")
    parser.add_argument("--wait-s", type=float, default=0.0, help="how long callers go on to return after the rush")
    parser.add_argument("--patience", type=int, default=20, help="how often a refused caller comes again")
    parser.add_argument("--keys", action="store_true", help="send an Idempotency-Key with every question")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} cores, load average before: {os.getloadavg()[0]:.1f}")
    with (
        tempfile.TemporaryDirectory(prefix="headrace-overload-") as folder,
        running(Path(folder) / "home") as stack,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        ingest(stack, corpus(ROOT / "docs", 30))
        runner.run(measure(stack, arguments))
    print(f"load average after:     {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
