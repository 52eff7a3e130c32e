"""Starts, finds, inspects and stops a stack; what the command line and the tests call."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import psutil

from headrace.local.artefacts import cache_dir, read_lock
from headrace.local.family import SUPERVISOR, end_all, marks, members
from headrace.local.fetch import fetch_all, fetch_jars, fetch_model, place_model
from headrace.local.home import Home
from headrace.local.language_model import MISSING, is_installed
from headrace.local.logs import last_lines
from headrace.local.parts import STOP_SIGNALS
from headrace.local.ports import kept_ports
from headrace.local.record import PartRecord, Record, read_record
from headrace.local.supervisor import EXIT_RUNS_ALREADY
from headrace.local.table import Options

UP_S = 900.0
DOWN_S = 100.0
POLL_S = 0.05
SHOWN_LINES = 12
CURE = "What to do about it: docs/runbooks/embedded-stack.md, 'A part does not come up'."

Progress = Callable[[Record], None]


class StackError(Exception):
    """The stack could not do as it was told; the text is for people and says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStatus:
    """One part as it is this moment; the memory is that of its process and the ones it started, bytes."""

    name: str
    state: str
    pid: int | None
    port: int | None
    rss_bytes: int
    restarts: int
    uptime_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A stack as it is this moment; `state` is as in Record, or `orphaned`: parts run, their supervisor does not."""

    state: str
    home: str
    parts: list[PartStatus]

    @property
    def ready(self) -> bool:
        """Whether every part can be used."""
        return self.state == "ready" and not self._lacking

    @property
    def condition(self) -> str:
        """The state in a few words, naming the parts that cannot be used just now."""
        if self.state != "ready" or not self._lacking:
            return self.state
        return "not ready: " + ", ".join(f"{part.name} is {part.state}" for part in self._lacking)

    @property
    def _lacking(self) -> list[PartStatus]:
        return [part for part in self.parts if part.state not in ("ready", "done")]


def fetch(home: Home, options: Options) -> int:
    """Fetch what the stack needs and the cache lacks; return the bytes downloaded.

    Raises:
        FetchError: something could not be fetched.
    """
    if not options.stores:
        return 0
    artefacts, cache = read_lock(), cache_dir()
    n_bytes = fetch_all(artefacts, cache)
    models = [artefacts.model]
    if options.opensearch:
        n_bytes += fetch_jars(artefacts.opensearch, cache)
    if options.llm:
        n_bytes += fetch_model(artefacts.language_model, cache)
        models.append(artefacts.language_model)
    for model in models:
        place_model(model, cache, home.models / model.name)
    return n_bytes


def up(home: Home, options: Options | None = None, *, progress: Progress = lambda _: None) -> bool:
    """Start the stack and wait until every part is ready; one that runs already is only waited for.

    Args:
        home: where it keeps its data.
        options: what it is made of; by default everything.
        progress: called with every change.

    Returns:
        Whether it was started here; False: it ran already.

    Raises:
        StackError: it did not start; nothing of it runs.
        FetchError: something could not be fetched.
    """
    home.make()
    options = options or Options()
    if options.llm and not is_installed():
        raise StackError(MISSING)
    fetch(home, options)
    supervisor = _start_supervisor(home, options)
    deadline = time.monotonic() + UP_S
    while time.monotonic() < deadline:
        code = supervisor.poll()
        record = read_record(home.run)
        running = _supervisors(home) if code == EXIT_RUNS_ALREADY else {supervisor.pid}
        if record is not None and record.pid in running:
            progress(record)
            if record.state == "ready":
                return code is None
        if code == 0 or not running:
            raise StackError("the stack was stopped while it was waited for; run headrace up again")
        if code not in (None, EXIT_RUNS_ALREADY):
            raise StackError(_why(home, record if record and record.pid == supervisor.pid else None))
        time.sleep(POLL_S)
    raise StackError(f"the stack was not ready after {UP_S:.0f} s; headrace status shows what it waits for")


def down(home: Home, *, timeout_s: float = DOWN_S) -> int:
    """Stop the stack; return how many processes were stopped. Nothing of it runs afterwards. Idempotent."""
    family = members(home.path)
    end_all([member for member in family if member.part == SUPERVISOR], grace_s=timeout_s, signals={})
    end_all(members(home.path), grace_s=35, signals=STOP_SIGNALS)
    return len(family)


def is_running(home: Home) -> bool:
    """Say whether the stack has a supervisor."""
    return bool(_supervisors(home))


def status(home: Home) -> Status:
    """Look at the stack and its processes."""
    record = read_record(home.run) or Record(pid=0, state="stopped")
    parts = [_part_status(name, part) for name, part in record.parts.items()]
    state = record.state
    if is_running(home):
        own = PartRecord(state="ready", pid=record.pid, started_at=record.started_at)
        parts.append(_part_status(SUPERVISOR, own, alone=True))
    else:
        orphans = [member.part for member in members(home.path)]
        state = "orphaned" if orphans else "failed" if record.state == "failed" else "stopped"
        parts = [_left(part, running=part.name in orphans) for part in parts]
    return Status(state=state, home=str(home.path), parts=parts)


def pid_of(home: Home, part: str) -> int | None:
    """Return the process id of a part, or of the `supervisor`; None while it has none."""
    record = read_record(home.run)
    if record is None or not is_running(home):
        return None
    return record.pid if part == SUPERVISOR else record.parts[part].pid


def port_of(home: Home, part: str) -> int:
    """Return the port of a part on 127.0.0.1.

    Raises:
        StackError: it has none.
    """
    ports = kept_ports(home.ports)
    if part not in ports:
        raise StackError(f"there is no port of {part!r} in {home.ports}; it has {sorted(ports)}. Run headrace up.")
    return ports[part]


def _supervisors(home: Home) -> set[int]:
    return {member.process.pid for member in members(home.path) if member.part == SUPERVISOR}


def _start_supervisor(home: Home, options: Options) -> "subprocess.Popen[bytes]":
    with home.log(SUPERVISOR).open("ab") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "headrace.local.supervisor", str(home.path)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=dict(os.environ) | marks(home.path, SUPERVISOR),
            start_new_session=True,
        )
    assert supervisor.stdin is not None
    with supervisor.stdin as pipe, contextlib.suppress(BrokenPipeError):
        pipe.write(msgspec.json.encode(options))
    return supervisor


def _why(home: Home, record: Record | None) -> str:
    failure = record.failure if record else None
    if failure is not None and failure.part is None:
        return failure.message
    part = failure.part if failure and failure.part else SUPERVISOR
    what = failure.message if failure else "it ended before it could say why"
    lines = "\n".join(f"  {line}" for line in last_lines(home.log(part), SHOWN_LINES))
    return f"{part} did not start: {what}. Last lines of {home.log(part)}:\n{lines}\n{CURE}"


def _part_status(name: str, part: PartRecord, *, alone: bool = False) -> PartStatus:
    return PartStatus(
        name=name,
        state=part.state,
        pid=part.pid,
        port=part.port,
        rss_bytes=_rss_bytes(part.pid, alone=alone) if part.pid else 0,
        restarts=part.restarts,
        uptime_s=time.time() - part.started_at if part.pid else 0.0,
    )


def _left(part: PartStatus, *, running: bool) -> PartStatus:
    state = "orphaned" if running else "stopped"
    gone: dict[str, Any] = {} if running else {"pid": None, "rss_bytes": 0, "uptime_s": 0.0}
    return replace(part, state=state, **gone)


def _rss_bytes(pid: int, *, alone: bool) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *(() if alone else process.children(recursive=True))):
            with contextlib.suppress(psutil.Error):
                total += each.memory_info().rss
    return total
