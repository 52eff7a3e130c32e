"""Workers that die between two steps that belong together, once at each of these places."""

import asyncio
import random
from pathlib import Path

import pytest

from headrace.local.table import Options
from tests.faults.checker import check, report
from tests.faults.failing_worker import PLACES, VARIABLE
from tests.faults.history import read
from tests.faults.load import Load
from tests.faults.mutations import redrive_all
from tests.faults.run import HISTORY, INGEST, QUERY, gateway, worker, writing_history
from tests.faults.worse_worker import REFUSED
from tests.stack import Stack, running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(360)]

MODULE = "tests.faults.failing_worker"


async def submitted_and_redriven(stack: Stack, load: Load) -> None:
    """Documents are submitted, changed, patched and deleted; one is refused, and redriven."""
    rng = random.Random(load.seed)
    names = [f"d{n}" for n in range(4)]
    async with load.client() as client:
        await load.submit(client, "once-refused", rng, n_new=2, more=REFUSED.decode())
        for _ in range(2):
            for name in names:
                await load.submit(client, name, rng, n_new=3)
        await load.patch(client, names[1])
        await load.delete(client, names[0])
        await asyncio.gather(*(load.await_visible(client, name) for name in names))
        assert await load.await_status(client, "once-refused", "failed") == "failed"
        await asyncio.to_thread(redrive_all, stack)
        assert await load.await_status(client, "once-refused", "indexed") == "indexed"
    await load.observe()


def test_a_worker_that_dies_between_two_steps_loses_and_doubles_nothing(tmp_path: Path) -> None:
    died = tmp_path / "died"
    died.mkdir()
    rows = (
        gateway("gateway"),
        worker("worker-ingest", INGEST, MODULE),
        worker("worker-operator", ("operator",), MODULE),
        worker("worker-query", QUERY),
    )
    with running(tmp_path / "home", Options(processes=rows, env={VARIABLE: str(died)})) as stack:
        with writing_history(tmp_path, stack, "acme", 1) as load:
            asyncio.run(submitted_and_redriven(stack, load))
        versions = stack.sql("SELECT latest_version FROM documents WHERE document = 'once-refused'")

    verdict = check(read(tmp_path / HISTORY))
    print(report(verdict))
    assert verdict.violations == []
    assert {path.name for path in died.iterdir()} == set(PLACES)
    assert [row["latest_version"] for row in versions] == [1]
