"""One fault run: a stack, a seeded load, kill -9 of all its processes, zombies, poison, quiet, and a history to judge.

`python -m tests.faults.run --kills 20 --seed 7` runs it by hand.
"""

import argparse
import asyncio
import itertools
import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from headrace.local import stack as local
from headrace.local.ports import kept_ports
from headrace.local.table import Backoff, Options, Row
from schemas.events import QueryFinished
from schemas.topics import RESULTS
from tests.faults.checker import GRACE_S, Verdict, check, report
from tests.faults.disturbing import freeze, kill, watch
from tests.faults.duplicating import Duplicating
from tests.faults.figures import table
from tests.faults.gauges import await_no_lag, note_processes
from tests.faults.history import History, read
from tests.faults.load import Load
from tests.faults.poison import Poison, note_dead_letters, records
from tests.slow_model import slow, writing
from tests.stack import Stack, running

INGEST = ("intake", "chunk", "embed", "index", "lifecycle")
QUERY = ("retrieve", "generate")
SCORE = ("score", "evaluate", "operator")
WORKERS = ("worker-ingest-1", "worker-ingest-2", "worker-query-1", "worker-query-2", "worker-score")
STORES = ("kafka", "postgres", "valkey")
GATEWAYS = ("gateway", "gateway-2")
QUESTION_S = 30
"""How long a question may take."""
LEASE_S = 3
"""How long a worker may be silent before another one takes its questions over: shorter than a dead one stays away."""
HISTORY = "history.jsonl"
CORPUS = "corpus/"
"""What the names of documents begin with that are there beside those of the load, and that the checker is not told."""
WARM = 10
"""How many documents are searchable before the first kill."""
ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is done to the stack.

    Attributes:
        seed: of load, kills and zombies.
        n_kills: how many processes are killed, one after the other.
        n_frozen: how many are stopped meanwhile, for `frozen_s` each, and then go on.
        targets: parts that are killed, each once in a round.
        zombies: parts that are stopped, each once in a round.
        pause_s: shortest and longest time between two kills.
        frozen_s: longer than a group waits for a sign of life of its member (10 s), and than a lease lasts.
        settle_s: how long the stack may take to become quiet afterwards.
        rest_s: of the load.
        gauged_every_s: time between two looks at what the processes hold; None: only before and after the load.
    """

    seed: int
    n_kills: int
    n_frozen: int = 0
    targets: Sequence[str] = (*WORKERS, *GATEWAYS, *STORES)
    zombies: Sequence[str] = (*WORKERS, *GATEWAYS)
    pause_s: tuple[float, float] = (2.0, 5.0)
    frozen_s: float = 15.0
    settle_s: float = 120.0
    rest_s: float = 0.2
    gauged_every_s: float | None = None


def two_of_each(module: str = "streams", env: Mapping[str, str] | None = None) -> Options:
    """Two gateways, and two workers of each lane, run from a module of the same command line."""
    return Options(
        processes=(
            *(gateway(name) for name in GATEWAYS),
            *(worker(f"worker-ingest-{n}", INGEST, module) for n in (1, 2)),
            *(worker(f"worker-query-{n}", QUERY, module) for n in (1, 2)),
        ),
        env={
            "HEADRACE_QUERY_TIMEOUT_MS": str(QUESTION_S * 1000),
            "HEADRACE_QUESTION_LEASE_MS": str(LEASE_S * 1000),
            **(env or {}),
        },
        backoff=Backoff(max_s=1.0, start_s=120),
    )


def every_stage(module: str = "streams", env: Mapping[str, str] | None = None) -> Options:
    """The same, and a worker of the stages that neither lane waits for."""
    options = two_of_each(module, env)
    return msgspec.structs.replace(options, processes=(*options.processes, worker("worker-score", SCORE, module)))


def worker(name: str, stages: Sequence[str], module: str = "streams") -> Row:
    """Return the row of a worker."""
    arguments = ("-m", module, "--stages", ",".join(stages))
    return Row(name=name, arguments=arguments, env={"PYTHONPATH": str(ROOT), "HEADRACE_ENCODER_THREADS": "1"})


def gateway(name: str) -> Row:
    """Return the row of a gateway."""
    return Row(name=name, arguments=("-m", "gateway"), port_variable="HEADRACE_GATEWAY_PORT")


def one_worker_per_lane(module: str = "streams") -> Options:
    """A gateway and a worker of each lane."""
    whole = two_of_each(module)
    return msgspec.structs.replace(whole, processes=[row for row in whole.processes if not row.name.endswith("2")])


@contextmanager
def recording(folder: Path, stack: Stack, *tenants: str, generation: str = "g1") -> Iterator[History]:
    """Give a history that is complete, with what the stores hold of these tenants, when the block ends.

    Args:
        folder: of the history.
        stack: whose stores are read.
        tenants: whose documents and questions.
        generation: of which the chunks are read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    history = History(folder / HISTORY)
    history.add("allowed", seconds=QUESTION_S)
    history.add("gateways", parts=[name for name in kept_ports(stack.home.ports) if name.startswith("gateway")])
    try:
        yield history
        for tenant in tenants:
            _store(stack, tenant, history, generation)
    finally:
        history.close()


@contextmanager
def writing_history(folder: Path, stack: Stack, tenant: str, seed: int) -> Iterator[Load]:
    """Give a load of a tenant whose history is complete, with what the stores hold, when the block ends."""
    with recording(folder, stack, tenant) as history:
        yield Load(urls=stack.urls, key=f"{tenant}-key", history=history, seed=seed)


def crowd(stack: Stack, history: History, seed: int, rest_s: float) -> list[Load]:
    """Two tenants, and a group of the first one whose documents the others of its tenant must not see."""
    operations = itertools.count(1)

    def load(name: str, key: str, n: int, acl: Sequence[str] | None = None, more: Sequence[str] = ()) -> Load:
        return Load(
            urls=stack.urls,
            key=key,
            history=history,
            seed=seed,
            rest_s=rest_s,
            name=name,
            acl=acl,
            may=(name, *more),
            operations=operations,
            n_documents=10 * n,
            n_writers=n,
            n_askers=n,
        )

    return [
        load("acme", "acme-key", 2),
        load("board", "acme-board-key", 1, acl=("board",), more=("acme",)),
        load("globex", "globex-key", 1),
    ]


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


def execute(folder: Path, plan: Plan, stack: Stack) -> Verdict:
    """Run the plan on a stack of every stage that nobody else uses; its history is in `folder`."""
    with recording(folder, stack, "acme", "globex") as history:
        asyncio.run(_disturbed(stack, crowd(stack, history, plan.seed, plan.rest_s), history, plan))
        note_dead_letters(stack, history)
        note_processes(stack, history, "gauge")
    return check(read(folder / HISTORY))


@contextmanager
def slowly_answering(folder: Path) -> Iterator[Stack]:
    """Run a stack whose answers take a second, so that they are there to be killed amid, cut and cancelled."""
    with writing(slow()) as model, running(folder, every_stage(env=model.env)) as stack:
        yield stack


def _store(stack: Stack, tenant: str, history: History, generation: str) -> None:
    """Note every chunk row, every question as it has ended, and every result."""
    end = time.monotonic() + QUESTION_S + GRACE_S
    while stack.sql(_OPEN, tenant)[0]["n"] and time.monotonic() < end:
        time.sleep(0.1)
    chunks = (
        f"SELECT document, text, metadata FROM chunks_{generation} WHERE tenant = $1 AND NOT starts_with(document, $2)"
    )
    for row in stack.sql(chunks, tenant, CORPUS):
        names = sorted(json.loads(row["metadata"]))
        history.add("stored", document=row["document"], text=row["text"], fields=names)
    now = time.monotonic()
    for row in stack.sql(_QUESTIONS, tenant):
        fields = dict(row)
        history.add("question", deadline_at=now - fields.pop("since_deadline_s"), **fields)
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
       extract(epoch FROM coalesce(finished_at, now()) - deadline)::float8 AS late_s,
       extract(epoch FROM now() - deadline)::float8 AS since_deadline_s
FROM queries WHERE tenant = $1
"""


def results(stack: Stack) -> list[QueryFinished]:
    """Read the topic of results from beginning to end."""
    return [msgspec.json.decode(message.value() or b"", type=QueryFinished) for message in records(stack, RESULTS.name)]


async def _disturbed(stack: Stack, loads: Sequence[Load], history: History, plan: Plan) -> None:
    poison = Poison(kafka=stack.kafka, history=history)
    repeating = Duplicating(kafka=stack.kafka, rng=random.Random(f"{plan.seed}/repeated"), history=history)
    quiet = asyncio.Event()
    watching = asyncio.create_task(watch(stack, history, quiet))
    working = [asyncio.create_task(load.run()) for load in loads] + [
        asyncio.create_task(poison.run()),
        asyncio.create_task(repeating.run()),
    ]
    end = time.monotonic() + plan.settle_s
    while history.counts["visible"] < WARM and time.monotonic() < end:
        await _unless_broken(working, 0.1)
    note_processes(stack, history, "gauge_before")
    async with _gauged(stack, history, plan.gauged_every_s):
        await _disturb(stack, history, plan, working)
    poison.stop.set()
    repeating.stop.set()
    for load in loads:
        load.stop.set()
    history.add("load_ended")
    await asyncio.gather(*working)
    await asyncio.gather(*(load.settle(plan.settle_s) for load in loads))
    await await_no_lag(stack, history, plan.settle_s)
    for load in loads:
        await load.observe()
        async with load.client() as client:
            for marker in (marker for other in loads if other is not load for marker in other.markers()[:10]):
                await load.seek(client, marker)
    quiet.set()
    await watching


@asynccontextmanager
async def _gauged(stack: Stack, history: History, every_s: float | None) -> AsyncIterator[None]:
    """Write down again and again what the processes hold, while the block runs."""

    async def gauge(pause_s: float) -> None:
        while True:
            await asyncio.sleep(pause_s)
            note_processes(stack, history, "gauge_during")

    task = asyncio.create_task(gauge(every_s)) if every_s else None
    try:
        yield
    finally:
        if task:
            task.cancel()


async def _disturb(stack: Stack, history: History, plan: Plan, working: Sequence["asyncio.Task[None]"]) -> None:
    """Kill one part after the other, and freeze others meanwhile; the plan's seed says which and when."""
    rng = random.Random(f"{plan.seed}/kills")
    frozen_before = sorted(rng.choices(range(plan.n_kills), k=plan.n_frozen))
    targets: list[str] = []
    zombies: list[str] = []
    freezing: list[asyncio.Task[None]] = []
    for n in range(plan.n_kills):
        await _unless_broken(working, rng.uniform(*plan.pause_s))
        while frozen_before and frozen_before[0] == n:
            frozen_before.pop(0)
            zombies = zombies or rng.sample(plan.zombies, len(plan.zombies))
            freezing.append(asyncio.create_task(freeze(stack, zombies.pop(), plan.frozen_s, history)))
        targets = targets or rng.sample(plan.targets, len(plan.targets))
        kill(stack, targets.pop(), history)
    await asyncio.gather(*freezing)


async def _unless_broken(working: Sequence["asyncio.Task[None]"], seconds: float) -> None:
    """Wait; raise what ended a part of the load, which otherwise works until it is told to stop."""
    done, _ = await asyncio.wait(working, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        await task
        raise AssertionError("a part of the load ended by itself")


def main() -> int:
    """Run by hand; 1 when an invariant was violated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--frozen", type=int, default=2, help="how many processes are stopped for 15 s meanwhile")
    parser.add_argument("--folder", type=Path, default=None, help="keeps the history and the logs")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="headrace-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    with slowly_answering(folder / "home") as stack:
        plan = Plan(seed=arguments.seed, n_kills=arguments.kills, n_frozen=arguments.frozen)
        verdict = execute(folder, plan, stack)
    print(f"{table(read(folder / HISTORY))}\n{report(verdict)}\nseed {arguments.seed}, history {folder / HISTORY}")
    return 1 if verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
