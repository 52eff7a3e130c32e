"""The checker notices every worse part, and finds nothing where the same is done to sound ones."""

from pathlib import Path

import pytest

from tests.faults.checker import report
from tests.faults.mutations import MUTATIONS, run

pytestmark = [pytest.mark.faults, pytest.mark.long, pytest.mark.timeout(300)]


@pytest.mark.parametrize("attempt", [1, 2, 3])
@pytest.mark.parametrize("part", MUTATIONS)
def test_a_worse_part_is_noticed(tmp_path: Path, part: str, attempt: int) -> None:
    verdict = run(tmp_path, part, attempt)

    print(report(verdict))
    for invariant in MUTATIONS[part].breaks:
        assert verdict.counts[invariant] >= 1


@pytest.mark.parametrize("part", MUTATIONS)
def test_sound_parts_stand_the_same(tmp_path: Path, part: str) -> None:
    assert run(tmp_path, part, 1, sound=True).violations == []
