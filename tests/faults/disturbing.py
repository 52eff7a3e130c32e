"""Kills, freezes and stops the parts of a stack, and writes it down."""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from headrace.local import stack as local
from headrace.local.parts import STOP_SIGNALS
from headrace.local.record import read_record
from tests.faults.history import History
from tests.stack import Stack

WATCH_S = 0.1
STOP_MAX_S = 60.0
DOWN = frozenset({"waiting", "starting", "restarting", "stopping", "stopped"})
"""States of a part without a process, or with one that has not been ready yet."""


def process_of(stack: Stack, part: str) -> psutil.Process | None:
    """Return a part's process; None while it has none. The handle never means another process of the same id."""
    pid = local.pid_of(stack.home, part)
    try:
        return psutil.Process(pid) if pid else None
    except psutil.NoSuchProcess:
        return None


def kill(stack: Stack, part: str, history: History) -> None:
    """Kill a part's process with SIGKILL; one that is just coming back is spared."""
    process = process_of(stack, part)
    history.add("kill", part=part, pid=process and process.pid)
    if process is not None:
        with _already_dead(history, part):
            process.kill()


async def stop(stack: Stack, part: str, history: History) -> float:
    """Tell a part's process to stop, wait until it has ended, and return how long that took, seconds."""
    process = process_of(stack, part)
    assert process is not None, f"{part} has no process"
    began = time.monotonic()
    history.add("stop", part=part, pid=process.pid)
    process.send_signal(STOP_SIGNALS.get(part, signal.SIGTERM))
    await asyncio.to_thread(process.wait, STOP_MAX_S)
    took_s = time.monotonic() - began
    history.add("stopped", part=part, pid=process.pid, seconds=took_s)
    return took_s


async def await_ready(stack: Stack, part: str, after: int | None, within_s: float = 120.0) -> None:
    """Wait until a part is ready again whose process, of the id `after`, was told to stop and has ended."""
    end = time.monotonic() + within_s
    # for a moment the supervisor does not know that it has ended, and calls it ready
    while local.pid_of(stack.home, part) == after or not _ready(stack, part):
        assert time.monotonic() < end, f"{part} did not come back"
        await asyncio.sleep(WATCH_S)


def _ready(stack: Stack, part: str) -> bool:
    return any(each.name == part and each.state == "ready" for each in local.status(stack.home).parts)


async def freeze(stack: Stack, part: str, seconds: float, history: History) -> None:
    """Stop a part's process with SIGSTOP for that long: long enough, and it is a zombie when it goes on."""
    process = process_of(stack, part)
    history.add("freeze", part=part, pid=process and process.pid, seconds=seconds)
    if process is None:
        return
    with _already_dead(history, part):
        process.suspend()
        try:
            await asyncio.sleep(seconds)
        finally:
            process.resume()
            history.add("thawed", part=part, pid=process.pid)


@contextmanager
def _already_dead(history: History, part: str) -> Iterator[None]:
    try:
        yield
    except psutil.NoSuchProcess:
        history.add("already_dead", part=part)


async def watch(stack: Stack, history: History, stop: asyncio.Event) -> None:
    """Write down when a part is away and when it is ready again, and when it is down and up, until told to stop."""
    states: dict[str, str] = {}
    down: set[str] = set()
    while not stop.is_set():
        record = read_record(stack.home.run)
        for name, part in record.parts.items() if record else ():
            if part.state != states.get(name, "ready") and "ready" in (part.state, states.get(name, "ready")):
                history.add("back" if part.state == "ready" else "away", part=name)
            if (part.state in DOWN) is not (name in down):
                history.add("up" if name in down else "down", part=name)
                down ^= {name}
            states[name] = part.state
        await asyncio.sleep(WATCH_S)
