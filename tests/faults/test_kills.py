"""Every part is killed with SIGKILL, and some are frozen, while documents change and questions are asked."""

from pathlib import Path

import pytest

from tests.faults.checker import Verdict, report
from tests.faults.figures import table
from tests.faults.history import read
from tests.faults.run import (
    HISTORY,
    Plan,
    behind_a_large_document,
    execute,
    one_worker_per_lane,
    slowly_answering,
)
from tests.stack import Stack, running

pytestmark = [pytest.mark.faults]


def judged(folder: Path, verdict: Verdict, n_kills: int) -> Verdict:
    """Print figures and verdict, which must find nothing, after that many kills."""
    history = read(folder / HISTORY)
    print(f"{table(history)}\n{report(verdict)}")
    assert verdict.violations == []
    assert sum(entry["kind"] == "kill" for entry in history) == n_kills
    return verdict


@pytest.mark.timeout(300)
def test_ten_kills_of_all_parts_and_a_zombie_lose_nothing(tmp_path: Path, slow_stack: Stack) -> None:
    plan = Plan(seed=1, n_kills=10, n_frozen=1, pause_s=(2.0, 4.0))

    verdict = judged(tmp_path, execute(tmp_path, plan, slow_stack), plan.n_kills)

    assert verdict.counts["documents"] >= 10
    assert verdict.counts["questions"] >= 10
    assert verdict.counts["poison"] >= 2


@pytest.mark.timeout(300)
def test_a_document_that_is_being_embedded_survives_the_death_of_its_worker(tmp_path: Path, slow_stack: Stack) -> None:
    verdict = judged(tmp_path, behind_a_large_document(tmp_path, slow_stack, "initech", 1), 2)

    assert verdict.counts["documents"] == 25


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_two_hundred_kills_of_all_parts_and_twelve_zombies_lose_nothing(tmp_path: Path) -> None:
    plan = Plan(seed=2, n_kills=200, n_frozen=12)

    with slowly_answering(tmp_path / "home") as stack:
        verdict = judged(tmp_path, execute(tmp_path, plan, stack), plan.n_kills)

    assert verdict.counts["taken over"] >= 1


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_the_checker_notices_the_acknowledgement_of_faust(tmp_path: Path, attempt: int) -> None:
    with running(tmp_path / "home", one_worker_per_lane("tests.faults.stock_worker")) as stack:
        verdict = behind_a_large_document(tmp_path, stack, "acme", attempt)

    print(report(verdict))
    assert verdict.counts["I1 lost"] >= 1
