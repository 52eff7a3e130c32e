"""Workers are killed with SIGKILL while documents change and questions are asked."""

from pathlib import Path

import pytest

from tests.faults.checker import report
from tests.faults.history import read
from tests.faults.run import Plan, behind_a_large_document, execute, one_worker_per_lane

pytestmark = [pytest.mark.faults]


@pytest.mark.timeout(420)
def test_ten_kills_of_workers_lose_nothing(tmp_path: Path) -> None:
    verdict = execute(tmp_path, Plan(seed=1, n_kills=10))

    print(report(verdict))
    assert verdict.violations == []
    assert sum(entry["kind"] == "kill" for entry in read(tmp_path / "history.jsonl")) == 10
    assert verdict.counts["documents"] >= 20
    assert verdict.counts["questions"] >= 20


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [2, 3])
def test_twenty_kills_of_workers_lose_nothing(tmp_path: Path, seed: int) -> None:
    verdict = execute(tmp_path, Plan(seed=seed, n_kills=20))

    print(report(verdict))
    assert verdict.violations == []
    assert sum(entry["kind"] == "kill" for entry in read(tmp_path / "history.jsonl")) == 20


@pytest.mark.timeout(300)
def test_a_document_that_is_being_embedded_survives_the_death_of_its_worker(tmp_path: Path) -> None:
    verdict = behind_a_large_document(tmp_path, 1, one_worker_per_lane())

    print(report(verdict))
    assert verdict.violations == []
    assert verdict.counts["documents"] == 25


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_the_checker_notices_the_acknowledgement_of_faust(tmp_path: Path, attempt: int) -> None:
    verdict = behind_a_large_document(tmp_path, 1, one_worker_per_lane("tests.faults.stock_worker"))

    print(report(verdict))
    assert verdict.counts["I1 lost"] >= 1
