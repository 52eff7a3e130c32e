"""The worker that carries out a gate is killed: the next one goes on behind what is measured."""

import time
from pathlib import Path

import psutil
import pytest

from headrace.local import stack as local
from tests.e2e.api import Api
from tests.e2e.test_gate import ask, labelled, verdict
from tests.stack import Stack, running

pytestmark = [pytest.mark.faults, pytest.mark.integration, pytest.mark.timeout(360)]

N = 150
MEASURED = "SELECT number, result::text FROM gate_results ORDER BY number"


def measured(stack: Stack) -> dict[int, str]:
    return {row["number"]: row["result"] for row in stack.sql(MEASURED)}


def test_a_gate_goes_on_where_its_killed_worker_was(tmp_path: Path) -> None:
    with running(tmp_path / "home") as stack:
        acme, operator = Api.connect(stack.url, "acme-key"), Api.connect(stack.url, "operator-key")
        text = "The valve of hall {n} closes at {bar} bar."
        documents = [{"id": f"gate/hall-{n}.md", "text": text.format(n=n, bar=n + 40)} for n in range(20)]
        acme.put(*documents)
        ask(stack, *(labelled(n % 20) for n in range(N)), margin=0.05)
        while len(before := measured(stack)) < 10:
            time.sleep(0.02)

        pid = local.pid_of(stack.home, "worker-query")
        assert pid is not None
        psutil.Process(pid).kill()
        left = measured(stack)
        found = verdict(operator, seconds=180)

        after = measured(stack)
        assert len(before) <= len(left) < N
        assert {number: after[number] for number in left} == left
        assert sorted(after) == list(range(N))
        assert (found["state"], found["verdict"], found["report"]["sets"][0]["n"]) == ("finished", "equal", N)
