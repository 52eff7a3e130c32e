import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.tour import ROOT, tour

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

HEADRACE = (sys.executable, "-c", "from headrace.cli import main; main()")


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Environment of a shell in which a stack of its own runs, started by the command that the README names."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    unset = ("HEADRACE_URL", "HEADRACE_API_KEY")
    inherited = {name: value for name, value in os.environ.items() if name not in unset}
    environment = inherited | {"HEADRACE_HOME": str(tmp_path / "home"), "PATH": path}
    try:
        subprocess.run([*HEADRACE, "up"], env=environment, check=True, timeout=420, stdin=subprocess.DEVNULL)
        yield environment
    finally:
        subprocess.run([*HEADRACE, "down"], env=environment, check=True, timeout=60, stdin=subprocess.DEVNULL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tour uses curl")
def test_the_tour_of_the_readme_works_as_printed(environment: dict[str, str]) -> None:
    script = "set -euo pipefail\n" + "\n".join(tour((ROOT / "README.md").read_text()))

    done = subprocess.run(
        ["bash", "-c", script],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=420,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "docs/glossary.md" in done.stdout
    assert "closes at 80 bar" in done.stdout
    assert "event: done" in done.stdout
    assert "had ended before: done" in done.stdout
    assert "noted: up" in done.stdout
    assert '"id":"README.md"' in done.stdout
    assert "deleted tour/gate.md" in done.stdout
