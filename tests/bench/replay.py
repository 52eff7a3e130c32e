"""Does a replay disturb live traffic, and how fast is it: `python -m tests.bench.replay --data DIR`.

One stack, one load of documents and questions at a fixed rate, and in turns, so that a machine that changes its pace
changes it for all: the base (the load alone, the replay paused), the raw encoder in its place, the replay. Then it goes
on to the end: gate, switch, rollback, drop. Ratios compare phases of this run. Speed is counted in tokens, for chunks
differ. The checker of the fault tests judges what clients saw. No vector of a question is remembered: each is encoded.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
import zlib
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import psutil

from headrace.client import AsyncClient, Client
from headrace.local.table import Options
from headrace.operations import Operations
from schemas.events import Chunk
from schemas.postgres.generation import chunks_table
from streams.replay import encoder_threads
from tests.bench import gate_samples
from tests.bench.__main__ import ROOT, UNCACHED, corpus, cpu_seconds
from tests.faults.checker import check, report
from tests.faults.gauges import await_no_lag
from tests.faults.history import History, read
from tests.faults.load import Load
from tests.faults.rolling import errors
from tests.faults.run import CORPUS, HISTORY, recording
from tests.stack import Stack, running

BAR_LIVE = 1.2
BAR_REPLAY = 0.9
SET = "nq_open_gold"
SAMPLE_S = 1.0
PATIENCE_S = 1800.0
BUSY_PERCENT = 20.0
"""What an idle stack uses, and a bit more."""
TENANT, KEY = "acme", "acme-key"
LIFE = ("replay", "rest of the replay", "gate", "switch", "rollback", "drop")
"""What comes with a generation; each moment is in one of them."""
EVENTS = {"sources": "first sources", "token": "first token", "answer": "whole answer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was used and done up to a moment.

    Attributes:
        at: seconds on the monotonic clock.
        cpu: seconds of CPU of each part, children included.
        chunks: that the candidate's process has encoded.
        tokens: of the chunks that the candidate holds.
        encoder_s: for which its encoder worked.
    """

    at: float
    cpu: Mapping[str, float]
    chunks: float
    tokens: float
    encoder_s: float


@dataclass(kw_only=True)
class Phases:
    """Names what happens under the load, in the history too.

    Attributes:
        stack: under load.
        history: of the load.
        candidate: generation that the replay fills.
    """

    stack: Stack
    history: History
    candidate: str
    looks: dict[str, list[tuple[Look, Look]]] = field(default_factory=lambda: defaultdict(list), init=False)

    @asynccontextmanager
    async def phase(self, name: str) -> AsyncIterator[None]:
        """Run one."""
        before = await asyncio.to_thread(self.look)
        self.history.add("phase_began", name=name)
        print(f"{name} ...", file=sys.stderr, flush=True)
        try:
            yield
        finally:
            self.history.add("phase_ended", name=name)
            self.looks[name].append((before, await asyncio.to_thread(self.look)))

    def is_running(self) -> bool:
        """Tell whether the candidate has a process."""
        return self.stack.metric("worker-replay", "headrace_replay_running", generation=self.candidate) > 0

    def look(self) -> Look:
        """Look once."""
        of = {"generation": self.candidate}
        return Look(
            at=time.monotonic(),
            cpu=cpu_seconds(self.stack),
            chunks=self.stack.metric("worker-replay", "headrace_chunks_encoded_total", **of),
            tokens=self._tokens(),
            encoder_s=self.stack.metric("worker-replay", "headrace_encoder_seconds_total", **of),
        )

    def _tokens(self) -> float:
        table = chunks_table(self.candidate)
        if self.stack.sql("SELECT to_regclass($1) IS NULL AS is_missing", table)[0]["is_missing"]:
            return 0.0
        return float(self.stack.sql(f"SELECT coalesce(sum(n_tokens), 0) AS n FROM {table}")[0]["n"])


def documents(args: argparse.Namespace) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return the corpus by id, and labelled questions about it."""
    held = {f"{CORPUS}docs/{name}": text for name, _, text in corpus(ROOT / "docs", 10_000)}
    if args.data is None:
        return held, []
    sample = gate_samples.sample(args.data, SET, args.passages, args.questions)
    held |= {f"{CORPUS}{SET}/{name}": text for name, text in sample.documents.items()}
    questions = [
        {
            "question": each.text,
            "documents": {f"{CORPUS}{SET}/{name}": grade for name, grade in each.relevant.items()},
            "tenant": TENANT,
            "set": SET,
        }
        for each in sample.questions
    ]
    return held, questions


async def ingest(stack: Stack, held: Mapping[str, str]) -> None:
    """Submit the corpus and wait until all of it is searchable.

    Of an earlier run in the same folder the corpus is kept, and what its load left is deleted.
    """
    there = "SELECT document FROM documents WHERE tenant = $1 AND NOT deleted"
    kept = {row["document"] for row in await asyncio.to_thread(stack.sql, there, TENANT)}
    names = [name for name in held if name not in kept]
    random.Random(0).shuffle(names)
    async with AsyncClient(urls=stack.urls, api_key=KEY) as client:
        for begin in range(0, len(names), 50):
            some = names[begin : begin + 50]
            await client.ingest([{"id": name, "text": held[name], "collection": "corpus"} for name in some])
        for name in kept - held.keys():
            await client.delete(name)
    end = time.monotonic() + PATIENCE_S
    while (n := await asyncio.to_thread(_indexed, stack)) < len(held):
        assert time.monotonic() < end, f"{n} of {len(held)} documents are indexed"
        await asyncio.sleep(0.5)


def _indexed(stack: Stack) -> int:
    query = "SELECT count(*) AS n FROM live WHERE generation = 'g1' AND starts_with(document, $1)"
    return int(stack.sql(query, CORPUS)[0]["n"])


async def idle(within_s: float) -> None:
    """Wait until nobody else needs the machine; goes on all the same when that takes too long."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        busy = await asyncio.to_thread(psutil.cpu_percent, 5.0)
        if busy < BUSY_PERCENT:
            return
        print(f"{busy:.0f} % busy", file=sys.stderr, flush=True)


def chunks_of(stack: Stack, file: Path) -> int:
    """Write down the chunks of the corpus as the candidate will embed them, by document, shuffled; returns how many."""
    rows = stack.sql("SELECT * FROM chunks_g1 WHERE starts_with(document, $1) ORDER BY document, ordinal", CORPUS)
    documents: dict[str, list[Chunk]] = defaultdict(list)
    for row in rows:
        documents[row["document"]].append(
            Chunk(
                id=row["chunk_id"],
                ordinal=row["ordinal"],
                text=row["text"],
                start=row["start_char"],
                end=row["end_char"],
                headings=json.loads(row["headings"]),
                n_tokens=row["n_tokens"],
                sentences=[(start, end) for start, end in json.loads(row["sentences"])],
            )
        )
    # those of one source are alike, and a short measurement sees the first ones only
    shuffled = list(documents.values())
    random.Random(0).shuffle(shuffled)
    file.write_bytes(msgspec.json.encode(shuffled))
    return len(rows)


async def raw(stack: Stack, file: Path, args: argparse.Namespace, nice: int) -> dict[str, float]:
    """Run the raw encoder as a replay is run: that many threads, that nice, a session of its own."""
    process = await asyncio.create_subprocess_exec(
        *("nice", "-n", str(nice), sys.executable, "-m", "tests.bench.raw_encoder", str(file)),
        *("--embedder", args.embedder, "--seconds", str(args.turn_s), "--nice", str(nice)),
        env=dict(os.environ)
        | stack.environment
        | {"HEADRACE_ENCODER_THREADS": str(args.threads or encoder_threads(os.cpu_count() or 1))},
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    told, _ = await process.communicate()
    assert process.returncode == 0, "the raw encoder failed"
    return dict(json.loads(told))


async def until(look: Any, wanted: Any, what: str) -> Any:
    """Look until it is as wanted."""
    end = time.monotonic() + PATIENCE_S
    while not wanted(found := await asyncio.to_thread(look)):
        assert time.monotonic() < end, f"{what}: {found}"
        await asyncio.sleep(SAMPLE_S)
    return found


async def measured(phases: Phases, load: Load, chunks: Path, questions: Sequence[Any], args: Any) -> dict[str, Any]:
    """Go through all phases under the load; returns what was told on the way."""
    stack, told = phases.stack, dict[str, Any]()
    await idle(args.idle_s)
    told["raw alone"], told["raw"] = await raw(stack, chunks, args, nice=0), []
    working = asyncio.create_task(load.run())
    await asyncio.sleep(args.warm_s)
    with Client(stack.url, "operator-key") as client:
        operations = Operations(client=client)

        async def switched(switch: Mapping[str, Any]) -> None:
            def now() -> Mapping[str, Any]:
                return next(each for each in operations.switches() if each["id"] == switch["id"])

            ended = await until(now, lambda each: each["state"] in ("done", "refused"), "switch")
            assert ended["state"] == "done", ended["why"]

        operations.create_generation(args.candidate, chunker=args.chunker, embedder=args.embedder)
        await until(
            lambda: operations.generation(args.candidate), lambda now: now["state"] == "following", "it is not made"
        )
        for _ in range(args.turns):
            operations.change_generation(args.candidate, "pause")
            await until(phases.is_running, lambda running: not running, "the replay does not pause")
            async with phases.phase("base"):
                await asyncio.sleep(args.turn_s)
            async with phases.phase("raw encoder"):
                told["raw"].append(await raw(stack, chunks, args, nice=args.nice))
            operations.change_generation(args.candidate, "resume")
            async with phases.phase("replay"):
                await until(phases.look, lambda look: look.chunks > 0, "nothing is encoded")
                async with phases.phase("encoding"):
                    await asyncio.sleep(args.turn_s)
        async with phases.phase("rest of the replay"):
            told["covered"] = await until(
                lambda: operations.generation(args.candidate),
                lambda now: now["n_covered"] + now["n_failed"] >= now["n_documents"] and now["n_ready"],
                "not all is covered",
            )
        async with phases.phase("gate"):
            operations.ask_gate(args.candidate, {"questions": questions, "golden": not questions})
            told["gate"] = await until(
                lambda: operations.gate(args.candidate), lambda now: now["state"] not in ("asked", "running"), "gate"
            )
        async with phases.phase("switch"):
            await switched(operations.switch(args.candidate, force=not told["gate"]["passed"]))
            await asyncio.sleep(args.stay_s)
        async with phases.phase("rollback"):
            await switched(operations.rollback(force=False))
            await asyncio.sleep(args.stay_s)
        async with phases.phase("drop"):
            operations.drop_generation(args.candidate)
            await until(
                lambda: operations.generation(args.candidate),
                lambda now: now["state"] == "dropped",
                "it is not dropped",
            )
    load.stop.set()
    load.history.add("load_ended")
    await working
    await load.settle(PATIENCE_S)
    await await_no_lag(stack, load.history, PATIENCE_S)
    await load.observe()
    return told


def latencies(entries: Sequence[dict[str, Any]], name: str) -> dict[str, list[float]]:
    """Return the seconds of each question asked in a phase, from sending it to each of its events, sorted."""
    began, ended = (
        [each["at"] for each in entries if each["kind"] == kind and each["name"] == name]
        for kind in ("phase_began", "phase_ended")
    )
    times = list(zip(began, ended, strict=True))
    asked = {each["reader"]: each["asked_at"] for each in entries if each["kind"] == "ask"}
    firsts: dict[tuple[str, str], float] = {}
    for each in entries:
        if each["kind"] == "event":
            firsts.setdefault((each["reader"], each["event"]), each["at"])
    return {
        event: sorted(
            firsts[reader, event] - at
            for reader, at in asked.items()
            if any(start <= at < end for start, end in times) and (reader, event) in firsts
        )
        for event in EVENTS
    }


def quantile(values: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values."""
    return statistics.quantiles(values, n=1000, method="inclusive")[round(1000 * share) - 1]


def print_latencies(entries: Sequence[dict[str, Any]], phases: Sequence[str]) -> None:
    """Print a row for each phase and event, beside the base."""
    base = latencies(entries, "base")
    print(f"| phase | questions | event | p50 ms | p95 ms | p95 / base (bar {BAR_LIVE}) |\n|---|---|---|---|---|---|")
    found = {name: latencies(entries, name) for name in phases}
    found["whole life"] = {
        event: sorted(itertools.chain.from_iterable(found[name][event] for name in LIFE)) for event in EVENTS
    }
    for name, of in found.items():
        for event, values in of.items():
            if len(values) < 2:
                continue
            p50, p95 = quantile(values, 0.5), quantile(values, 0.95)
            ratio = p95 / quantile(base[event], 0.95)
            print(f"| {name} | {len(values)} | {EVENTS[event]} | {1000 * p50:.0f} | {1000 * p95:.0f} | {ratio:.2f} |")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What encoding took, summed up."""

    tokens: float
    seconds: float
    cpu_s: float

    def told(self) -> str:
        """Say how fast it was."""
        per_s, ms = self.tokens / self.seconds, 1000 * self.cpu_s / self.tokens
        return f"{per_s:6.0f} tokens/s, {self.cpu_s / self.seconds:.2f} cores, {ms:.3f} CPU ms a token"


def spent(found: Sequence[Mapping[str, float]]) -> Spent:
    """Sum up what the raw encoder told."""
    return Spent(**{key: sum(each[key] for each in found) for key in ("tokens", "seconds", "cpu_s")})


def replayed(looks: Sequence[tuple[Look, Look]]) -> Spent:
    """Sum up what the replay did in its phases."""
    return Spent(
        tokens=sum(after.tokens - before.tokens for before, after in looks),
        seconds=sum(after.at - before.at for before, after in looks),
        cpu_s=sum(after.cpu["worker-replay"] - before.cpu["worker-replay"] for before, after in looks),
    )


def print_speed(looks: Mapping[str, Sequence[tuple[Look, Look]]], told: Mapping[str, Any]) -> None:
    """Print how fast the replay was beside the raw encoder in its place, and what it cost."""
    encoding = looks["encoding"]
    raw, replay = spent(told["raw"]), replayed(encoding)
    busy = sum(after.encoder_s - before.encoder_s for before, after in encoding) / replay.seconds
    print(f"raw encoder, alone    {spent([told['raw alone']]).told()}")
    print(f"raw under load        {raw.told()}")
    print(f"replay under load     {replay.told()}, encoder busy {busy:.2f}")
    for turn, (one, look) in enumerate(zip(told["raw"], encoding, strict=True), start=1):
        print(f"turn {turn}: {_ratios(spent([one]), replayed([look]))}")
    print(f"replay / raw encoder in its place: {_ratios(raw, replay)} (bar {BAR_REPLAY})")


def _ratios(raw: Spent, replay: Spent) -> str:
    wall = (replay.tokens / replay.seconds) / (raw.tokens / raw.seconds)
    per_cpu = (raw.cpu_s / raw.tokens) / (replay.cpu_s / replay.tokens)
    return f"{wall:.2f} by the clock, {per_cpu:.2f} by CPU time"


def print_cpu(looks: Mapping[str, Sequence[tuple[Look, Look]]]) -> None:
    """Print how many cores each part used in each phase."""
    parts = sorted({part for turns in looks.values() for _, after in turns for part in after.cpu})
    print(f"| cores | {' | '.join(parts)} |\n|---|{'---|' * len(parts)}")
    for name, turns in looks.items():
        seconds = sum(after.at - before.at for before, after in turns)
        used = [
            sum(after.cpu.get(part, 0.0) - before.cpu.get(part, 0.0) for before, after in turns) / seconds
            for part in parts
        ]
        # a process that ended meanwhile has taken its time with it
        cells = [f"{each:.2f}" if each >= 0 else "began anew" for each in used]
        print(f"| {name}, {seconds:.0f} s | {' | '.join(cells)} |")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help=f"folder that holds the set {SET}; else docs/ alone")
    parser.add_argument("--passages", type=int, default=2600, help="of that set")
    parser.add_argument("--questions", type=int, default=200, help="of that set, for the gate")
    parser.add_argument("--chunker", default="structure")
    parser.add_argument("--embedder", default="all-MiniLM-L6-v2@int8")
    parser.add_argument("--askers", type=int, default=8)
    parser.add_argument("--writers", type=int, default=2)
    parser.add_argument("--every-s", type=float, default=2.0, help="each asker and writer begins so often")
    parser.add_argument("--idle-s", type=float, default=60.0, help="longest wait for others to be done")
    parser.add_argument("--candidate", default="g2", help="a name that no earlier run in the same folder has used")
    parser.add_argument("--warm-s", type=float, default=20.0)
    parser.add_argument("--turns", type=int, default=4, help="of base, raw encoder and replay")
    parser.add_argument("--turn-s", type=float, default=45.0, help="each of them takes so long in each turn")
    parser.add_argument("--stay-s", type=float, default=10.0, help="after the switch, and after the rollback")
    parser.add_argument("--nice", type=int, default=19, help="of the replay")
    parser.add_argument("--threads", type=int, default=0, help="of the replay's encoder; 0: as it chooses")
    parser.add_argument("--chunks-per-s", type=float, default=0.0, help="bound of the replay; 0: none")
    parser.add_argument("--folder", type=Path, help="keeps the history and the logs")
    return parser.parse_args()


def main() -> int:
    """Measure, and print; 1 when something failed or was lost."""
    args = arguments()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="headrace-replay-"))
    folder.mkdir(parents=True, exist_ok=True)
    held, questions = documents(args)
    options = Options(
        env={
            **UNCACHED,
            "HEADRACE_REPLAY_NICE": str(args.nice),
            "HEADRACE_REPLAY_THREADS": str(args.threads),
            "HEADRACE_REPLAY_CHUNKS_PER_S": str(args.chunks_per_s),
        }
    )
    with running(folder / "home", options) as stack:
        asyncio.run(ingest(stack, held))
        n_chunks = chunks_of(stack, folder / "chunks.json")
        print(f"corpus: {len(held)} documents, {n_chunks} chunks; {psutil.cpu_count()} cores", flush=True)
        with recording(folder / args.candidate, stack, TENANT) as history:
            load = Load(
                urls=stack.urls,
                key=KEY,
                history=history,
                name=args.candidate,
                may=(args.candidate,),
                seed=zlib.crc32(args.candidate.encode()),
                n_writers=args.writers,
                n_askers=args.askers,
                every_s=args.every_s,
                share_awaited=0.0,
                share_cut=0.0,
                share_cancelled=0.0,
                share_repeated=0.0,
            )
            phases = Phases(stack=stack, history=history, candidate=args.candidate)
            told = asyncio.run(measured(phases, load, folder / "chunks.json", questions, args))
    entries = read(folder / args.candidate / HISTORY)
    verdict, failed = check(entries), list(errors(entries))
    offered = args.askers / args.every_s, args.writers / args.every_s
    print(f"load: {offered[0]:.1f} questions and {offered[1]:.1f} documents a second, at a fixed rate")
    print(f"gate: {told['gate']['verdict']}: {told['gate']['reason']}")
    print_latencies(entries, list(phases.looks))
    print_speed(phases.looks, told)
    print_cpu(phases.looks)
    print(f"failed: {len(failed)} {failed[:5]}\n{report(verdict)}\nhistory {folder / args.candidate / HISTORY}")
    return 1 if failed or verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
