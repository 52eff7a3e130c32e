"""The table of what rankers are held to."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
def test_every_adapter_is_held_to_everything_but_doubles_to_restarts() -> None:
    command = [sys.executable, "-m", "tests.contract.names"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in said.splitlines() if line[:1] == "│"]
    lacking = {name: cells for name, *cells in rows if "-" in cells}
    assert lacking == {
        "what was written is there and fenced after the store was killed": ["-", "1", "1", "1"],
        "what was written is there and fenced after a restart": ["-", "1", "1"],
    }
    assert {name for name, *_ in rows} >= {
        "a shorter version leaves no tail",
        "a deleted document is gone and comes back when it is added again",
        "an older version changes nothing",
        "any condition means what it says",
        "ten thousand documents are held exactly",
    }
