"""Workers and gateways are killed with SIGKILL while documents change and questions are asked."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.checker import Verdict, report
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


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with slowly_answering(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


def judged(folder: Path, verdict: Verdict, n_kills: int) -> Verdict:
    """Print a verdict that must find nothing, after that many kills."""
    print(report(verdict))
    assert verdict.violations == []
    assert sum(entry["kind"] == "kill" for entry in read(folder / HISTORY)) == n_kills
    return verdict


@pytest.mark.timeout(300)
def test_eight_kills_of_workers_and_gateways_lose_nothing(tmp_path: Path, stack: Stack) -> None:
    verdict = judged(tmp_path, execute(tmp_path, Plan(seed=1, n_kills=8, pause_s=(2.0, 4.0)), stack), 8)

    assert verdict.counts["documents"] >= 15
    assert verdict.counts["questions"] >= 20


@pytest.mark.timeout(300)
def test_a_document_that_is_being_embedded_survives_the_death_of_its_worker(tmp_path: Path, stack: Stack) -> None:
    verdict = judged(tmp_path, behind_a_large_document(tmp_path, stack, "globex", 1), 2)

    assert verdict.counts["documents"] == 25


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [2, 3])
def test_fifty_kills_of_workers_and_gateways_lose_nothing(tmp_path: Path, seed: int) -> None:
    with slowly_answering(tmp_path / "home") as stack:
        verdict = judged(tmp_path, execute(tmp_path, Plan(seed=seed, n_kills=50), stack), 50)

    assert verdict.counts["taken over"] >= 1


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("attempt", [1, 2, 3])
def test_the_checker_notices_the_acknowledgement_of_faust(tmp_path: Path, attempt: int) -> None:
    with running(tmp_path / "home", one_worker_per_lane("tests.faults.stock_worker")) as stack:
        verdict = behind_a_large_document(tmp_path, stack, "acme", attempt)

    print(report(verdict))
    assert verdict.counts["I1 lost"] >= 1
