"""Parts that are told to stop and come back under load: clients notice nothing but time."""

from pathlib import Path

import pytest

from gateway.server import GRACE_S
from streams.runtime.app import Timing
from streams.runtime.worker import STOP_MARGIN_S
from tests.faults.checker import report
from tests.faults.rolling import Rolled, roll
from tests.faults.run import GATEWAYS, WORKERS
from tests.stack import Stack

pytestmark = [pytest.mark.faults]

WORKER_STOP_S = Timing().drain_s + STOP_MARGIN_S
GATEWAY_STOP_S = GRACE_S + 2
"""Open requests, and what closing connections takes."""


def judged(rolled: Rolled, stack: Stack) -> Rolled:
    print(f"{rolled.table()}\n{report(rolled.verdict)}")
    for log in stack.home.logs.glob("*.log"):
        for line in log.read_text(errors="replace").splitlines():
            if "did_not_end" in line or "stop_took_too_long" in line:
                print(f"{log.stem}: {line}")
    assert rolled.verdict.violations == []
    for part, seconds in rolled.stopped_s.items():
        assert seconds <= (GATEWAY_STOP_S if part in GATEWAYS else WORKER_STOP_S), f"{part} took {seconds:.1f} s"
    return rolled


@pytest.mark.timeout(300)
def test_a_gateway_and_a_worker_of_each_kind_stop_unnoticed(tmp_path: Path, slow_stack: Stack) -> None:
    parts = ("gateway", "worker-query-1", "worker-ingest-1")

    rolled = judged(roll(tmp_path, slow_stack, parts, "hooli", quiet_s=3), slow_stack)

    assert rolled.errors == []
    assert set(rolled.stopped_s) == set(parts)
    assert len(rolled.first_token_s[1]) >= 5


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_rolling_restart_of_every_process_of_ours_is_seen_as_time_alone(tmp_path: Path, slow_stack: Stack) -> None:
    rolled = judged(roll(tmp_path, slow_stack, (*GATEWAYS, *WORKERS), "umbrella", quiet_s=60), slow_stack)

    assert rolled.errors == []
    assert len(rolled.stopped_s) == 7


@pytest.mark.long
@pytest.mark.timeout(600)
def test_stores_that_restart_in_good_order_lose_nothing(tmp_path: Path, slow_stack: Stack) -> None:
    parts = ("valkey", "postgres", "kafka")

    rolled = judged(roll(tmp_path, slow_stack, parts, "vehement", quiet_s=10, seed=2), slow_stack)

    assert set(rolled.stopped_s) == set(parts)

    # what was not accepted then was refused with its reason, and is no loss
    print(rolled.errors[:5])
