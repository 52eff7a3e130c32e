"""Watchdogs: what they let pass, and what makes them bite."""

import subprocess
import sys

import pytest

from streams.runtime.watchdog import (
    EXIT_STUCK,
    Stuck,
    check_assignment,
    check_commits,
    check_fetching,
    check_handlers,
)


def test_a_handler_may_run_for_twice_its_deadline() -> None:
    check_handlers("embed", 20.0, 10.0)
    with pytest.raises(Stuck, match="embed: a handler runs for 21 s; its deadline is 10 s"):
        check_handlers("embed", 21.0, 10.0)


def test_an_idle_stage_is_not_stuck() -> None:
    check_fetching("embed", n_unfetched=0, in_flight=0, idle_s=3_600.0)


def test_a_stage_busy_with_what_it_has_is_not_stuck() -> None:
    check_fetching("embed", n_unfetched=9, in_flight=8, idle_s=3_600.0)


def test_records_that_wait_while_nothing_is_fetched_bite() -> None:
    with pytest.raises(Stuck, match="9 offsets wait in Kafka, but nothing was fetched for 61 s"):
        check_fetching("embed", n_unfetched=9, in_flight=0, idle_s=61.0)


def test_commits_that_stand_still_bite() -> None:
    check_commits("embed", 60.0)
    with pytest.raises(Stuck, match="not been committed for 61 s"):
        check_commits("embed", 61.0)


def test_a_member_without_partitions_is_stuck_only_when_some_are_free() -> None:
    check_assignment("embed", 0)
    with pytest.raises(Stuck, match="though 2 are free"):
        check_assignment("embed", 2)


BLOCKED = """
import asyncio, time
from streams.runtime.watchdog import LoopWatch

async def main():
    with LoopWatch(limit_s=0.5):
        await asyncio.sleep(0.1)
        time.sleep(20)

asyncio.run(main())
"""


def test_a_loop_that_stands_still_ends_the_process_and_says_where() -> None:
    ended = subprocess.run([sys.executable, "-c", BLOCKED], capture_output=True, text=True, timeout=15, check=False)
    assert ended.returncode == EXIT_STUCK
    assert "event_loop_stands_still" in ended.stdout + ended.stderr
    assert "in main" in ended.stdout + ended.stderr
