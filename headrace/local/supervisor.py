"""The process that starts the parts of a stack in order and keeps them running until it is told to stop."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock, Timeout

from headrace.local.artefacts import cache_dir
from headrace.local.family import SUPERVISOR, Member, end_all, members
from headrace.local.home import Home
from headrace.local.keeper import Keeper, StartFailed
from headrace.local.logs import rotate
from headrace.local.parts import STOP_SIGNALS, Part, phases, port_names
from headrace.local.ports import PortTaken, check_free, keep_ports, ports_of_others
from headrace.local.record import Failure, PartRecord, Record, write_record
from headrace.local.table import Backoff, Options

EXIT_FAILED = 1
EXIT_RUNS_ALREADY = 3
ORPHAN_GRACE_S = 35.0
ROTATE_S = 10.0
CHOOSE_S = 30.0


@dataclass(kw_only=True)
class Supervisor:
    """Runs one stack. `run` is called once."""

    home: Home
    phases: list[list[Part]]
    backoff: Backoff
    record: Record = field(init=False)
    _started: list[list[Keeper]] = field(default_factory=list)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> int:
        """Start all parts, keep them running until SIGTERM or SIGINT, stop them in reverse; return the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        parts = {part.name: PartRecord(port=part.port) for phase in self.phases for part in phase}
        self.record = Record(pid=os.getpid(), started_at=time.time(), parts=parts)
        try:
            await self._until_stopped(self._start_all())
            if not self._stop.is_set():
                self._to("ready")
                await self._until_stopped(self._keep_logs_small())
        except (StartFailed, PortTaken) as failed:
            part = failed.part if isinstance(failed, StartFailed) else None
            self.record.failure = Failure(part=part, message=str(failed))
            await self._stop_all("failed")
            return EXIT_FAILED
        except BaseException:
            await self._stop_all("failed")
            raise
        await self._stop_all("stopped")
        return 0

    async def _start_all(self) -> None:
        self._write()
        for phase in self.phases:
            keepers = [self._keeper(part) for part in phase]
            self._started.append(keepers)
            await asyncio.gather(*(keeper.start() for keeper in keepers))

    def _keeper(self, part: Part) -> Keeper:
        return Keeper(
            part=part,
            log=self.home.log(part.name),
            record=self.record.parts[part.name],
            backoff=self.backoff,
            ports=self.home.ports,
            changed=self._write,
        )

    async def _until_stopped(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work, or give it up when a signal comes."""
        task, stop = asyncio.ensure_future(work), asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([task, stop], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            stop.cancel()
            await task
        else:
            task.cancel()
            await asyncio.wait([task])

    async def _keep_logs_small(self) -> None:
        while True:
            for name in (SUPERVISOR, *self.record.parts):
                await asyncio.to_thread(rotate, self.home.log(name))
            await asyncio.sleep(ROTATE_S)

    async def _stop_all(self, end: str) -> None:
        self._to("stopping")
        for keepers in reversed(self._started):
            await asyncio.gather(*(keeper.stop() for keeper in keepers))
        self._to(end)

    def _to(self, state: str) -> None:
        self.record.state = state
        self._write()

    def _write(self) -> None:
        try:
            write_record(self.home.run, self.record)
        except OSError as error:
            # A full disk must not end the parts, which may live through it.
            print(f"could not write {self.home.run}: {error}", file=sys.stderr)


def supervise(home: Home, options: Options) -> int:
    """Run a stack in this process until it is told to stop; return its exit code.

    What an earlier supervisor left running, because it was killed, is ended first.
    """
    home.make()
    lock = FileLock(home.lock)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return EXIT_RUNS_ALREADY
    with lock:
        try:
            _end_orphans(home)
            ports = _choose_ports(home, options)
            check_free(ports, home.ports)
        except (PortTaken, ValueError, OSError) as error:
            failure = Failure(part=None, message=str(error))
            write_record(home.run, Record(pid=os.getpid(), state="failed", failure=failure))
            return EXIT_FAILED
        stack = Supervisor(home=home, phases=phases(home, options, ports), backoff=options.backoff)
        return asyncio.run(stack.run())


def _choose_ports(home: Home, options: Options) -> dict[str, int]:
    """Choose one stack at a time: ports chosen at the same moment would all look free."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with FileLock(cache_dir() / "ports.lock", timeout=CHOOSE_S):
        avoid = ports_of_others(home.path)
        return keep_ports(home.ports, port_names(options), gateway_port=options.gateway_port, avoid=avoid)


def _end_orphans(home: Home) -> None:
    orphans: list[Member] = [member for member in members(home.path) if member.part != SUPERVISOR]
    if orphans:
        found = ", ".join(f"{member.part} ({member.process.pid})" for member in orphans)
        print(f"ending what an earlier supervisor left: {found}", file=sys.stderr)
        end_all(orphans, grace_s=ORPHAN_GRACE_S, signals=STOP_SIGNALS)


def main() -> None:
    """Run as `python -m headrace.local.supervisor HOME`, the options as JSON on standard input."""
    options = msgspec.json.decode(sys.stdin.buffer.read(), type=Options)
    sys.exit(supervise(Home(Path(sys.argv[1])), options))


if __name__ == "__main__":
    main()
