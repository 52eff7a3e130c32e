"""Brokers of a cluster of three are killed, frozen and restarted while documents change and questions are asked."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from schemas.topics import ANSWERS, DOCUMENTS, EMBEDDINGS, INGEST, LIFECYCLE, QUERIES
from tests.cluster import (
    await_in_sync,
    coordinators,
    frozen,
    leaders,
    on_three_brokers,
    replicas,
    restart_one_after_the_other,
    send,
)
from tests.faults.checker import check, report
from tests.faults.history import read
from tests.faults.load import Load
from tests.faults.run import HISTORY, WARM, one_worker_per_lane, writing_history
from tests.stack import Stack, running

pytestmark = [pytest.mark.faults, pytest.mark.long]

BUSY = (INGEST.name, DOCUMENTS.name, EMBEDDINGS.named("g1").name, LIFECYCLE.name, QUERIES.name, ANSWERS.name)
GROUPS = ("rag.intake", "rag.chunk.structure", "rag.embed.g1", "rag.index.g1", "rag.retrieve", "rag.generate")
FROZEN_S = 15.0
"""Longer than brokers (3 s) and groups (10 s) wait for a sign of life."""
SETTLE_S = 120.0

Disturbance = Callable[[Stack], None]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack"), on_three_brokers(one_worker_per_lane())) as stack:
        yield stack


def kill_the_busiest_leader(stack: Stack) -> None:
    send(stack, leaders(stack, BUSY).most_common(1)[0][0], signal.SIGKILL)


def kill_the_busiest_coordinator(stack: Stack) -> None:
    send(stack, coordinators(stack, GROUPS).most_common(1)[0][0], signal.SIGKILL)


def freeze_a_leader(stack: Stack) -> None:
    with frozen(stack, leaders(stack, BUSY).most_common(1)[0][0]):
        time.sleep(FROZEN_S)


async def under_load(stack: Stack, load: Load, *disturbances: Disturbance) -> None:
    working = asyncio.create_task(load.run())
    try:
        end = time.monotonic() + SETTLE_S
        while load.history.counts["visible"] < WARM and time.monotonic() < end:
            await asyncio.wait([working], timeout=0.1)
        for disturb in disturbances:
            load.history.add("disturbance", what=disturb.__name__)
            await asyncio.to_thread(disturb, stack)
            await asyncio.wait([working], timeout=5)
            await asyncio.to_thread(await_in_sync, stack)
            load.history.add("healed", what=disturb.__name__)
            await asyncio.wait([working], timeout=5)
    finally:
        load.stop.set()
        await working
    await load.settle(SETTLE_S)
    await load.observe()


def judge(folder: Path) -> None:
    """Print the verdict, and the longest silence around each disturbance; nothing may be violated."""
    entries = read(folder / HISTORY)
    verdict = check(entries)
    print(report(verdict))
    for entry in entries:
        if entry["kind"] == "disturbance":
            (end,) = (e["at"] for e in entries if e["kind"] == "healed" and e["what"] == entry["what"])
            around = [e for e in entries if entry["at"] - 2 < e["at"] < end + 5]
            said = ", ".join(f"no {kind} for {silence_s(around, kind):.1f} s" for kind in ("acknowledged", "visible"))
            print(f"{entry['what']}: {said}, no answer event for {silence_s(around, 'event'):.1f} s at the longest")
    assert verdict.violations == []


def silence_s(entries: list[dict[str, Any]], kind: str) -> float:
    """Longest time between two entries of a kind."""
    first, last = entries[0]["at"], entries[-1]["at"]
    times: list[float] = [first, *(entry["at"] for entry in entries if entry["kind"] == kind), last]
    return max(later - earlier for earlier, later in pairwise(times))


@pytest.mark.timeout(300)
def test_every_topic_is_kept_thrice_and_two_must_have_a_record(stack: Stack) -> None:
    assert replicas(stack, INGEST.name) == [(3, 3)] * INGEST.partitions
    assert replicas(stack, "__consumer_offsets") == [(3, 3)] * 8


@pytest.mark.timeout(300)
def test_the_death_of_the_leader_of_busy_partitions_loses_nothing(tmp_path: Path, stack: Stack) -> None:
    with writing_history(tmp_path, stack, "acme", 1) as load:
        asyncio.run(under_load(stack, load, kill_the_busiest_leader))
    judge(tmp_path)


@pytest.mark.timeout(900)
def test_coordinators_that_die_leaders_that_freeze_and_restarts_of_all_lose_nothing(
    tmp_path: Path, stack: Stack
) -> None:
    disturbances = (kill_the_busiest_coordinator, freeze_a_leader, restart_one_after_the_other)
    with writing_history(tmp_path, stack, "globex", 2) as load:
        asyncio.run(under_load(stack, load, *disturbances))
    judge(tmp_path)
