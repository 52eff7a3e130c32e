"""One fault run: a stack, a seeded load, kill -9 of its processes, quiet, and a history to judge.

`python -m tests.faults.run --kills 20 --seed 7` runs it by hand.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace.local import stack as local
from headrace.local.table import Backoff, Options, Row
from tests.faults.checker import Verdict, check, report
from tests.faults.history import History, read
from tests.faults.load import Load
from tests.stack import Stack, running

INGEST = ("intake", "chunk", "embed", "index", "lifecycle")
QUERY = ("retrieve", "generate")
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done to the stack.

    Attributes:
        seed: of load and kills.
        n_kills: how many processes are killed, one after the other.
        targets: parts that are killed.
        pause_s: shortest and longest time between two kills.
        settle_s: how long the stack may take to become quiet afterwards.
    """

    seed: int
    n_kills: int
    targets: Sequence[str] = ("worker-ingest-1", "worker-ingest-2", "worker-query-1", "worker-query-2")
    pause_s: tuple[float, float] = (3.0, 7.0)
    settle_s: float = 120.0


def two_workers_per_lane(module: str = "streams") -> Options:
    """A gateway, and two workers of each lane, run from a module of the same command line."""

    def worker(name: str, stages: Sequence[str]) -> Row:
        arguments = ("-m", module, "--stages", ",".join(stages))
        return Row(name=name, arguments=arguments, env={"PYTHONPATH": str(ROOT), "HEADRACE_ENCODER_THREADS": "1"})

    return Options(
        processes=(
            Row(name="gateway", arguments=("-m", "gateway"), port_variable="HEADRACE_GATEWAY_PORT"),
            *(worker(f"worker-ingest-{n}", INGEST) for n in (1, 2)),
            *(worker(f"worker-query-{n}", QUERY) for n in (1, 2)),
        ),
        backoff=Backoff(max_s=1.0, start_s=120),
    )


def one_worker_per_lane(module: str = "streams") -> Options:
    """A gateway and one worker of each lane."""
    whole = two_workers_per_lane(module)
    return msgspec.structs.replace(whole, processes=[row for row in whole.processes if not row.name.endswith("2")])


def behind_a_large_document(folder: Path, seed: int, options: Options) -> Verdict:
    """Kill the ingest worker while a large document is being embedded and the small ones behind it are done.

    Whoever commits over the large one loses it, every time.
    """
    history = History(folder / "history.jsonl")
    with running(folder / "home", options) as stack:
        load = Load(url=stack.url, key="acme-key", history=history, seed=seed)
        asyncio.run(_large_then_small(stack, load))
        _store(stack, history)
    history.close()
    return check(read(history.path))


async def _large_then_small(stack: Stack, load: Load) -> None:
    rng = random.Random(f"{load.seed}/large")
    async with load.client() as client:
        await load.submit(client, "large", rng, n_new=2500)
        # parsed, so that it stands before the small ones in the log that the encoder reads
        await load.await_status(client, "large", "chunked")
        small = [f"small/{n}" for n in range(24)]
        for document in small:
            await load.submit(client, document, rng, n_new=1)
        await asyncio.gather(*(load.await_visible(client, document) for document in small))
        # commits run twice a second
        await asyncio.sleep(1.5)
        assert await load.status(client, "large") == "chunked", "the large document is no longer on its way"
    kill(stack, "worker-ingest-1", load.history)
    await load.settle(45)
    await load.observe()


def execute(folder: Path, plan: Plan, options: Options | None = None) -> Verdict:
    """Run the plan on a fresh stack in `folder`; its history stays there as `history.jsonl`."""
    history = History(folder / "history.jsonl")
    with running(folder / "home", options or two_workers_per_lane()) as stack:
        load = Load(url=stack.url, key="acme-key", history=history, seed=plan.seed)
        asyncio.run(_disturbed(stack, load, plan))
        _store(stack, history)
    history.close()
    return check(read(history.path))


def _store(stack: Stack, history: History) -> None:
    """Note every chunk row."""
    for row in stack.sql("SELECT document, text FROM chunks_g1 WHERE tenant = 'acme'"):
        history.add("stored", document=row["document"], text=row["text"])


async def _disturbed(stack: Stack, load: Load, plan: Plan) -> None:
    rng = random.Random(f"{plan.seed}/kills")
    working = asyncio.create_task(load.run())
    for _ in range(plan.n_kills):
        await asyncio.wait([working], timeout=rng.uniform(*plan.pause_s))
        if working.done():
            break
        kill(stack, rng.choice(plan.targets), load.history)
    load.stop.set()
    await working
    await load.settle(plan.settle_s)
    await load.observe()


def kill(stack: Stack, part: str, history: History) -> None:
    """Kill a part's process with SIGKILL; one that is just coming back is spared."""
    pid = local.pid_of(stack.home, part)
    history.add("kill", part=part, pid=pid)
    if pid is not None:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            history.add("already_dead", part=part)


def main() -> int:
    """Run by hand; 1 when an invariant was violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--folder", type=Path, default=None, help="keeps the history and the logs")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="headrace-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    verdict = execute(folder, Plan(seed=arguments.seed, n_kills=arguments.kills))
    kills = sum(entry["kind"] == "kill" for entry in read(folder / "history.jsonl"))
    print(f"{report(verdict)}\nkills: {kills}, seed {arguments.seed}, history {folder / 'history.jsonl'}")
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
