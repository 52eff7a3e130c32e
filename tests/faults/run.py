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
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from confluent_kafka import Consumer, TopicPartition

from headrace.local import stack as local
from headrace.local.table import Backoff, Options, Row
from schemas.events import QueryFinished
from schemas.topics import RESULTS
from tests.faults.checker import GRACE_S, Verdict, check, report
from tests.faults.history import History, read
from tests.faults.load import Load
from tests.slow_model import slow, writing
from tests.stack import Stack, running

INGEST = ("intake", "chunk", "embed", "index", "lifecycle")
QUERY = ("retrieve", "generate")
WORKERS = ("worker-ingest-1", "worker-ingest-2", "worker-query-1", "worker-query-2")
GATEWAYS = ("gateway", "gateway-2")
QUESTION_S = 30
"""How long a question may take."""
LEASE_S = 3
"""How long a worker may be silent before another one takes its questions over: shorter than a dead one stays away."""
HISTORY = "history.jsonl"
WARM = 10
"""How many documents are searchable before the first kill."""
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done to the stack.

    Attributes:
        seed: of load and kills.
        n_kills: how many processes are killed, one after the other.
        targets: parts that are killed, each once in a round.
        pause_s: shortest and longest time between two kills.
        settle_s: how long the stack may take to become quiet afterwards.
    """

    seed: int
    n_kills: int
    targets: Sequence[str] = (*WORKERS, *GATEWAYS)
    pause_s: tuple[float, float] = (2.0, 5.0)
    settle_s: float = 120.0


def two_of_each(module: str = "streams", env: Mapping[str, str] | None = None) -> Options:
    """Two gateways, and two workers of each lane, run from a module of the same command line."""

    def worker(name: str, stages: Sequence[str]) -> Row:
        arguments = ("-m", module, "--stages", ",".join(stages))
        return Row(name=name, arguments=arguments, env={"PYTHONPATH": str(ROOT), "HEADRACE_ENCODER_THREADS": "1"})

    return Options(
        processes=(
            *(gateway(name) for name in GATEWAYS),
            *(worker(f"worker-ingest-{n}", INGEST) for n in (1, 2)),
            *(worker(f"worker-query-{n}", QUERY) for n in (1, 2)),
        ),
        env={
            "HEADRACE_QUERY_TIMEOUT_MS": str(QUESTION_S * 1000),
            "HEADRACE_QUESTION_LEASE_MS": str(LEASE_S * 1000),
            **(env or {}),
        },
        backoff=Backoff(max_s=1.0, start_s=120),
    )


def gateway(name: str) -> Row:
    """Return the row of a gateway."""
    return Row(name=name, arguments=("-m", "gateway"), port_variable="HEADRACE_GATEWAY_PORT")


def one_worker_per_lane(module: str = "streams") -> Options:
    """A gateway and a worker of each lane."""
    whole = two_of_each(module)
    return msgspec.structs.replace(whole, processes=[row for row in whole.processes if not row.name.endswith("2")])


@contextmanager
def writing_history(folder: Path, stack: Stack, tenant: str, seed: int) -> Iterator[Load]:
    """Give a load of a tenant whose history is complete, with what the stores hold, when the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    history = History(folder / HISTORY)
    history.add("allowed", seconds=QUESTION_S)
    try:
        yield Load(urls=stack.urls, key=f"{tenant}-key", history=history, seed=seed)
        _store(stack, tenant, history)
    finally:
        history.close()


def behind_a_large_document(folder: Path, stack: Stack, tenant: str, seed: int) -> Verdict:
    """Kill the ingest workers while a large document is being embedded and the small ones behind it are done.

    Whoever commits over the large one loses it, every time.
    """
    with writing_history(folder, stack, tenant, seed) as load:
        asyncio.run(_large_then_small(stack, load))
    return check(read(folder / HISTORY))


async def _large_then_small(stack: Stack, load: Load) -> None:
    rng = random.Random(f"{load.seed}/large")
    async with load.client() as client:
        await load.submit(client, "large", rng, n_new=1500)
        # parsed, so that it stands before the small ones in the log that the encoder reads
        await load.await_status(client, "large", "chunked")
        small = [f"small/{n}" for n in range(24)]
        for document in small:
            await load.submit(client, document, rng, n_new=1)
        await asyncio.gather(*(load.await_visible(client, document) for document in small))
        # commits run twice a second
        await asyncio.sleep(1.5)
        assert await load.status(client, "large") == "chunked", "the large document is no longer on its way"
    for part in (part.name for part in local.status(stack.home).parts if part.name.startswith("worker-ingest")):
        kill(stack, part, load.history)
    await load.settle(120)
    await load.observe()


def execute(folder: Path, plan: Plan, stack: Stack, tenant: str = "acme") -> Verdict:
    """Run the plan on a stack; its history is in `folder`."""
    with writing_history(folder, stack, tenant, plan.seed) as load:
        asyncio.run(_disturbed(stack, load, plan))
    return check(read(folder / HISTORY))


@contextmanager
def slowly_answering(folder: Path) -> Iterator[Stack]:
    """Run a stack whose answers take a second, so that they are there to be killed amid, cut and cancelled."""
    with writing(slow()) as model, running(folder, two_of_each(env=model.env)) as stack:
        yield stack


def _store(stack: Stack, tenant: str, history: History) -> None:
    """Note every chunk row, every question as it has ended, and every result."""
    end = time.monotonic() + QUESTION_S + GRACE_S
    while stack.sql(_OPEN, tenant)[0]["n"] and time.monotonic() < end:
        time.sleep(0.1)
    for row in stack.sql("SELECT document, text FROM chunks_g1 WHERE tenant = $1", tenant):
        history.add("stored", document=row["document"], text=row["text"])
    for row in stack.sql(_QUESTIONS, tenant):
        history.add("question", **row)
    for result in results(stack):
        text = result.answer.text if result.answer else None
        if result.tenant == tenant:
            history.add("result", query=result.query, outcome=result.outcome, attempt=result.attempt, text=text)


_OPEN = """
SELECT count(*) AS n FROM queries
WHERE tenant = $1 AND (state IN ('pending', 'claimed') OR state = 'finished' AND published_at IS NULL)
"""

_QUESTIONS = """
SELECT id::text AS query, state, outcome, attempt, answer ->> 'text' AS text, published_at IS NOT NULL AS published,
       extract(epoch FROM coalesce(finished_at, now()) - deadline)::float8 AS late_s
FROM queries WHERE tenant = $1
"""


def results(stack: Stack) -> list[QueryFinished]:
    """Read the topic of results from beginning to end."""
    consumer = Consumer({"bootstrap.servers": stack.kafka, "group.id": "faults", "log_level": 0})
    found: list[QueryFinished] = []
    try:
        partitions = consumer.list_topics(RESULTS.name, timeout=10).topics[RESULTS.name].partitions
        places = [TopicPartition(RESULTS.name, partition, 0) for partition in partitions]
        left = sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
        consumer.assign(places)
        while len(found) < left:
            for message in consumer.consume(500, timeout=10):
                assert message.error() is None, message.error()
                found.append(msgspec.json.decode(message.value() or b"", type=QueryFinished))
    finally:
        consumer.close()
    return found


async def _disturbed(stack: Stack, load: Load, plan: Plan) -> None:
    rng = random.Random(f"{plan.seed}/kills")
    working = asyncio.create_task(load.run())
    targets: list[str] = []
    end = time.monotonic() + plan.settle_s
    while load.history.counts["visible"] < WARM and time.monotonic() < end:
        await asyncio.wait([working], timeout=0.1)
    for _ in range(plan.n_kills):
        await asyncio.wait([working], timeout=rng.uniform(*plan.pause_s))
        if working.done():
            break
        targets = targets or rng.sample(plan.targets, len(plan.targets))
        kill(stack, targets.pop(), load.history)
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
    with slowly_answering(folder / "home") as stack:
        verdict = execute(folder, Plan(seed=arguments.seed, n_kills=arguments.kills), stack)
    kills = sum(entry["kind"] == "kill" for entry in read(folder / HISTORY))
    print(f"{report(verdict)}\nkills: {kills}, seed {arguments.seed}, history {folder / HISTORY}")
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
