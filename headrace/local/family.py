"""The processes of one stack, found by a mark in their environment: also those whose supervisor is gone."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

HOME_MARK = "HEADRACE_STACK_HOME"
PART_MARK = "HEADRACE_STACK_PART"
SUPERVISOR = "supervisor"
KILLED_S = 10.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Member:
    """A live process of a stack, and the part that it, or the parent that started it, belongs to."""

    part: str
    process: psutil.Process


def marks(home: Path, part: str) -> dict[str, str]:
    """Return the environment variables by which a process is found again; its children inherit them."""
    return {HOME_MARK: str(home), PART_MARK: part}


def members(home: Path) -> list[Member]:
    """Return all live processes of the stack in this home, of this user, itself left out.

    A mark cannot be confused by a process id that was used again, and is there from the first instant of a process,
    before anybody could have written its id down.
    """
    return [
        Member(environment.get(PART_MARK, "?"), process)
        for environment, process in _marked()
        if environment[HOME_MARK] == str(home)
    ]


def live_homes() -> set[Path]:
    """Return the homes of all stacks of this user of which a process lives, that of this process left out."""
    return {Path(environment[HOME_MARK]) for environment, _ in _marked()}


def end_all(family: list[Member], *, grace_s: float, signals: Mapping[str, signal.Signals]) -> None:
    """Ask the processes to stop, and kill those that have not after the grace.

    Args:
        signals: what to ask with, per part; SIGTERM where it is not named.
    """
    for member in family:
        with contextlib.suppress(psutil.Error):
            member.process.send_signal(signals.get(member.part, signal.SIGTERM))
    for process in _alive_after(grace_s, [member.process for member in family]):
        with contextlib.suppress(psutil.Error):
            process.kill()
    _alive_after(KILLED_S, [member.process for member in family])


def _marked() -> Iterator[tuple[dict[str, str], psutil.Process]]:
    """Yield the live processes that bear a mark, with their environment."""
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            environment = process.environ()
        except (psutil.Error, OSError):
            continue
        if HOME_MARK in environment:
            yield environment, process


def _alive_after(timeout_s: float, processes: list[psutil.Process]) -> list[psutil.Process]:
    """Wait until all have ended, and return those that have not.

    Unlike psutil's own wait it does not wait for zombies: in a container perhaps nobody collects them.
    """
    deadline = time.monotonic() + timeout_s
    while (alive := [each for each in processes if _runs(each)]) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return alive


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
