"""Workers are killed with SIGKILL while documents change and questions are asked."""

from pathlib import Path

import pytest

from tests.faults.checker import report
from tests.faults.history import read
from tests.faults.run import Plan, execute

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
