"""A generation is made, filled and switched to under load while its workers, Kafka and Postgres are killed."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from typer.testing import CliRunner

from backbone.kafka import Admin
from backbone.settings import KafkaSettings
from headrace.cli import app
from headrace.client import AsyncClient, Client
from headrace.local.table import Row
from headrace.operations import Operations
from schemas.topics import EMBEDDINGS
from tests.faults.checker import Verdict, check, report
from tests.faults.disturbing import await_ready, kill, process_of, watch
from tests.faults.figures import table
from tests.faults.gauges import await_no_lag
from tests.faults.history import History, read
from tests.faults.load import Load
from tests.faults.run import CORPUS, HISTORY, WARM, every_stage, recording
from tests.stack import Stack, running

pytestmark = [pytest.mark.faults, pytest.mark.long]

CANDIDATE = "g2"
REPLAY = "worker-replay"
PROCESS = "the process of the replay"
N_DOCUMENTS = 400
AT_ONCE = 16 + 8
"""Records that an embed stage may have in hand, or done and not committed, when it dies: its slots, and some more."""
TARGETS = (PROCESS, "kafka", REPLAY, "postgres", PROCESS, "kafka", PROCESS, "postgres", REPLAY, PROCESS)
PATIENCE_S = 400.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of it.

    Attributes:
        verdict: of the checker, on what the candidate holds, which answers at the end.
        n_embedded: records in the candidate's topic of embeddings when it was filled.
        n_versions: versions of documents that were accepted until then.
        covered: covered documents at each kill.
    """

    verdict: Verdict
    n_embedded: int
    n_versions: int
    covered: list[int]


@pytest.mark.timeout(900)
def test_ten_kills_while_a_generation_is_filled_and_switched_to_lose_nothing(tmp_path: Path) -> None:
    whole = every_stage(env={"HEADRACE_REPLAY_CHUNKS_PER_S": "6", "HEADRACE_REPLAY_NICE": "0"})
    replay = Row(name=REPLAY, arguments=("-m", "streams.replay"), env={"HEADRACE_ENCODER_THREADS": "1"})
    with running(tmp_path / "home", msgspec.structs.replace(whole, processes=(*whole.processes, replay))) as stack:
        outcome = replayed(tmp_path, stack)
        verified = CliRunner().invoke(app, ["verify", "--json", "--url", stack.url, "--api-key", "operator-key"])

    print(f"{table(read(tmp_path / HISTORY))}\n{report(outcome.verdict)}\n{outcome}\n{verified.output}")
    assert outcome.verdict.violations == []
    assert verified.exit_code == 0, verified.output
    # it was killed on its way, not before and not after
    assert 0 < outcome.covered[1] < outcome.covered[-1] < N_DOCUMENTS
    # what was done before a kill is not done again: from the beginning it would be all that was covered, each time
    assert outcome.n_embedded <= outcome.n_versions + len(TARGETS) * AT_ONCE


def replayed(folder: Path, stack: Stack) -> Outcome:
    """Fill and switch under load and kills; the history is in the folder."""
    with recording(folder, stack, "acme", generation=CANDIDATE) as history:
        n_embedded, n_versions, covered = asyncio.run(_replayed(stack, history))
    return Outcome(verdict=check(read(folder / HISTORY)), n_embedded=n_embedded, n_versions=n_versions, covered=covered)


async def _replayed(stack: Stack, history: History) -> tuple[int, int, list[int]]:
    load = Load(urls=stack.urls, key="acme-key", history=history, seed=3, n_writers=2, n_askers=2, every_s=2.0)
    await _ingest(stack)
    quiet = asyncio.Event()
    watching = asyncio.create_task(watch(stack, history, quiet))
    working = asyncio.create_task(load.run())
    covered: list[int] = []
    with Client(urls=stack.urls, api_key="operator-key", patience_s=PATIENCE_S) as client:
        operations = Operations(client=client)

        async def generation() -> dict[str, Any]:
            return await asyncio.to_thread(operations.generation, CANDIDATE)

        await _until(lambda: asyncio.sleep(0.1, history.counts["visible"]), lambda n: n >= WARM, "the load is not warm")
        await asyncio.to_thread(
            operations.create_generation, CANDIDATE, chunker="structure", embedder="all-MiniLM-L6-v2@int8"
        )
        await _until(generation, lambda now: now["n_covered"] >= 20, "the replay does not begin")
        for target in TARGETS:
            covered.append((await generation())["n_covered"])
            killed = await _kill(stack, target, history)
            if target != PROCESS:
                await await_ready(stack, target, killed)
            # under load it may lose as many as it gains for a moment
            least = (await generation())["n_covered"] + 5
            await _until(generation, partial(_covers, least), f"it stands since the kill of {target}")
        await _until(
            generation, lambda now: now["n_covered"] >= now["n_documents"] and now["n_ready"] == 2, "it is not filled"
        )
        admin = Admin(KafkaSettings(kafka_bootstrap=stack.kafka))
        n_embedded = sum((await admin.end_offsets(EMBEDDINGS.named(CANDIDATE).name)).values())
        n_versions = N_DOCUMENTS + sum(history.counts[kind] for kind in ("submit", "delete", "patch"))
        switch = await asyncio.to_thread(operations.switch, CANDIDATE, force=True)

        async def now() -> dict[str, Any]:
            return next(each for each in await asyncio.to_thread(operations.switches) if each["id"] == switch["id"])

        ended = await _until(now, lambda each: each["state"] in ("done", "refused"), "it does not switch")
        assert ended["state"] == "done", ended
        await asyncio.sleep(5)
        load.stop.set()
        history.add("load_ended")
        await working
        await load.settle(PATIENCE_S)
        await await_no_lag(stack, history, PATIENCE_S)
        filled = await _until(generation, lambda now: now["n_covered"] >= now["n_documents"], "coverage is not 100 %")
        assert filled["serving"]
    await load.observe()
    quiet.set()
    await watching
    return n_embedded, n_versions, covered


async def _ingest(stack: Stack) -> None:
    rng = random.Random(3)
    async with AsyncClient(urls=stack.urls, api_key="acme-key") as client:
        for begin in range(0, N_DOCUMENTS, 50):
            await client.ingest([_document(n, rng) for n in range(begin, begin + 50)])

    async def indexed() -> int:
        query = "SELECT count(*) AS n FROM live WHERE generation = 'g1' AND starts_with(document, $1)"
        return int((await asyncio.to_thread(stack.sql, query, CORPUS))[0]["n"])

    await _until(indexed, lambda n: n == N_DOCUMENTS, "the corpus is not indexed")


def _document(n: int, rng: random.Random) -> dict[str, str]:
    halls = "\n\n".join(f"## Hall {n}.{m}\n\nIts crane lifts {rng.randint(2, 90)} tonnes." for m in range(2))
    return {"id": f"{CORPUS}{n}.md", "text": halls, "content_type": "text/markdown"}


def _covers(least: int, now: dict[str, Any]) -> bool:
    return int(now["n_covered"]) >= least


async def _kill(stack: Stack, target: str, history: History) -> int | None:
    """Kill; returns the id of the part's process."""
    if target != PROCESS:
        process_before = process_of(stack, target)
        kill(stack, target, history)
        return process_before.pid if process_before else None
    process = (await _until(lambda: _processes(stack), bool, "the replay has no process"))[0]
    history.add("kill", part=PROCESS, pid=process.pid)
    process.kill()
    return int(process.pid)


async def _processes(stack: Stack) -> Sequence[psutil.Process]:
    """Return the process that fills the generation, if it has begun to be one of ours."""
    worker = process_of(stack, REPLAY)
    try:
        return [each for each in worker.children() if "streams" in each.cmdline()] if worker else []
    except psutil.NoSuchProcess:
        return []


async def _until(look: Callable[[], Awaitable[Any]], wanted: Callable[[Any], bool], what: str) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not wanted(found := await look()):
        assert time.monotonic() < end, f"{what}: {found}"
        await asyncio.sleep(0.3)
    return found
