"""Keeps one part running: starts it, sees it become ready, and starts it again with backoff when it ends."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from headrace.local.parts import Part
from headrace.local.ports import PortTaken, is_taken, listens, port_taken
from headrace.local.record import PartRecord
from headrace.local.table import Backoff

STARTING_PROBE_S = 0.2
WATCHING_PROBE_S = 3.0


class StartFailed(Exception):
    """A part did not become ready in time, or not at all; the text says what happened."""

    def __init__(self, part: str, message: str) -> None:
        super().__init__(message)
        self.part = part


@dataclass(kw_only=True)
class Keeper:
    """One part of a running stack.

    Attributes:
        log: file that takes what the process writes.
        record: what is known about it, kept up to date here.
        ports: the file that keeps the stack's ports, for messages.
        changed: called whenever the record has changed.
    """

    part: Part
    log: Path
    record: PartRecord
    backoff: Backoff
    ports: Path
    changed: Callable[[], None]
    _first: "asyncio.Future[None]" = field(init=False)
    _task: "asyncio.Task[None]" = field(init=False)
    _process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the part, and return when it is ready for the first time.

        Raises:
            PortTaken: another program has its port.
            StartFailed: it is not within `backoff.start_s`, or ended `backoff.start_attempts` times before it was.
        """
        self._first = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._keep())
        try:
            async with asyncio.timeout(self.backoff.start_s):
                await asyncio.shield(self._first)
        except TimeoutError:
            raise StartFailed(self.part.name, f"it was not ready after {self.backoff.start_s:.0f} s") from None

    async def stop(self) -> None:
        """Stop the part: its stop signal, its grace, then SIGKILL for it and what it started. Idempotent."""
        self._task.cancel()
        await asyncio.wait([self._task])
        process = self._process
        if process is not None and process.returncode is None:
            self._update(state="stopping")
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(self.part.stop_signal)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.part.grace_s):
                    await process.wait()
            await self._end(process)
        self._update(state="stopped", pid=None)

    async def _keep(self) -> None:
        pause_s = self.backoff.first_s
        while True:
            began = time.monotonic()
            if await self._run_once() == 0 and self.part.once:
                self._update(state="done", pid=None, start_s=time.monotonic() - began)
                self._first.set_result(None)
                return
            if taken := self._port_taken():
                self._say(str(taken))
                if not self._first.done():
                    self._first.set_exception(taken)
                    return
            if not self._first.done() and self.record.restarts + 1 >= self.backoff.start_attempts:
                message = f"it ended {self.backoff.start_attempts} times in a row"
                self._first.set_exception(StartFailed(self.part.name, message))
                return
            if time.monotonic() - began >= self.backoff.healthy_s:
                pause_s = self.backoff.first_s
            self._update(state="restarting", pid=None)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, self.backoff.max_s)
            self.record.restarts += 1

    async def _run_once(self) -> int:
        """Start the process and watch it until it ends; return its exit code, -1 where it could not be started."""
        self._update(state="starting", started_at=time.time())
        try:
            command = await asyncio.to_thread(self.part.command)
            with self.log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=dict(self.part.env),
                    start_new_session=True,
                )
        except (OSError, RuntimeError) as error:
            self._say(f"could not be started: {error}")
            return -1
        self._update(pid=self._process.pid)
        watch = asyncio.create_task(self._watch(self._process.pid))
        try:
            code = await self._process.wait()
        finally:
            watch.cancel()
        await self._end(self._process)
        if code or not self.part.once:
            self._say(f"process {self._process.pid} ended with exit code {code}")
        return code

    async def _watch(self, pid: int) -> None:
        began = time.monotonic()
        while not self.part.once:
            state = "ready" if await self._answers(pid) else "unready"
            if not self._first.done() and state == "ready":
                self._first.set_result(None)
            if self.record.state == "starting" and state == "ready":
                self._update(state=state, start_s=time.monotonic() - began)
            elif self.record.state != "starting" and self.record.state != state:
                self._update(state=state)
            await asyncio.sleep(STARTING_PROBE_S if self.record.state == "starting" else WATCHING_PROBE_S)

    async def _answers(self, pid: int) -> bool:
        """Say whether the part can be used, and it is the process that answers, not a stranger on its port."""
        if not await self.part.ready():
            return False
        if self.part.port is None or await asyncio.to_thread(listens, pid, self.part.port):
            return True
        if not self._first.done() and (taken := self._port_taken()):
            self._first.set_exception(taken)
        return False

    def _port_taken(self) -> PortTaken | None:
        """Make the error where somebody has the port; the process must not listen on it."""
        port = self.part.port
        return port_taken(self.part.name, port, self.ports) if port is not None and is_taken(port) else None

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Kill what is left of the process and its group, and wait for it."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    def _update(self, **values: object) -> None:
        for name, value in values.items():
            setattr(self.record, name, value)
        self.changed()

    def _say(self, message: str) -> None:
        with contextlib.suppress(OSError), self.log.open("a") as log:
            log.write(f"[headrace] {time.strftime('%Y-%m-%d %H:%M:%S')} {self.part.name}: {message}\n")
