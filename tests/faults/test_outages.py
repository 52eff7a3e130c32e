"""A part is away for a while, down or frozen, while documents are submitted and questions asked."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from headrace.local import stack as local
from headrace.local.table import Backoff, Options
from tests.faults.visitors import judge, restarts_of, visited
from tests.stack import Stack, running

pytestmark = [pytest.mark.faults]

SHORT_S = 10.0
LONG_S = 60.0
FROZEN_S = 30.0
AFTER_S = 15.0
"""Longest time that a submission may take once the part is back, beside its own."""


@contextmanager
def frozen(stack: Stack, part: str) -> Iterator[None]:
    """Stop all processes of a part while the block runs, without ending them."""
    pid = local.pid_of(stack.home, part)
    assert pid is not None
    first = psutil.Process(pid)
    stopped = [first, *first.children(recursive=True)]
    try:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
        yield
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


def kill(stack: Stack, part: str) -> None:
    """End a part at once; it stays away for as long as the stack's backoff says."""
    pid = local.pid_of(stack.home, part)
    assert pid is not None
    psutil.Process(pid).send_signal(signal.SIGKILL)


def went_through(stack: Stack, part: str, how: str, away_s: float) -> None:
    restarts = restarts_of(stack)
    with visited(stack) as visitors:
        time.sleep(4)
        if how == "frozen":
            with frozen(stack, part):
                time.sleep(away_s)
        else:
            kill(stack, part)
            time.sleep(away_s)
        time.sleep(AFTER_S)
    judge(stack, visitors, restarts)
    # beside what was refused meanwhile
    assert visitors.heard["document 202"] >= 3
    assert visitors.heard["question done"] >= 3


@pytest.fixture
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    """A stack whose parts stay away for so long when they are killed."""
    with running(tmp_path / "home", Options(backoff=Backoff(first_s=request.param, max_s=request.param))) as stack:
        yield stack


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stack", [SHORT_S], indirect=True)
def test_postgres_down_for_ten_seconds_costs_nothing_but_time(stack: Stack) -> None:
    went_through(stack, "postgres", "down", SHORT_S)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stack", [LONG_S], indirect=True)
@pytest.mark.parametrize("part", ["postgres", "kafka", "valkey"])
def test_a_minute_without_a_part(stack: Stack, part: str) -> None:
    went_through(stack, part, "down", LONG_S)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stack", [LONG_S], indirect=True)
@pytest.mark.parametrize("part", ["postgres", "kafka", "valkey"])
def test_half_a_minute_with_a_frozen_part(stack: Stack, part: str) -> None:
    went_through(stack, part, "frozen", FROZEN_S)
