"""The replay worker: keeps a process for every index generation that does not answer.

As `python -m streams.replay`. Each process chunks (where the chunker is not that of the live lane), embeds and indexes
for one generation: from the beginning of the log, then behind live traffic. Their groups remember how far they are, so
a process may be killed at any time. They are nice, so live work goes first, and they have none of the live partitions.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from backbone.postgres import open_pool
from backbone.settings import WorkerSettings
from backbone.telemetry import end_within, serve_worker_endpoint, setup_logging
from streams.adapters.postgres_catalogue import PostgresCatalogue
from streams.errors import Fatal, Transient
from streams.ports import Catalogue
from streams.runtime.worker import EXIT_LATE

LOOK_S: Final = 1.0
STOP_S: Final = 24.0
"""How long a process may finish what it has in hand before it is killed; workers end by themselves before that."""
END_S: Final = 30.0
PAUSE_S: Final = 1.0
PAUSE_MAX_S: Final = 30.0
HEALTHY_S: Final = 60.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one process does: stages of a generation."""

    generation: str
    stages: tuple[str, ...]


async def wanted(catalogue: Catalogue) -> frozenset[Work]:
    """Return the work that is to be done now.

    Raises:
        Transient: the catalogue is away.
        Fatal: no generation answers.
    """
    serving = await catalogue.serving()
    held = await catalogue.held()
    live_chunker = next((each.chunker for each in held if each.name == serving), None)
    return frozenset(
        Work(
            generation=each.name,
            stages=("embed", "index") if each.chunker == live_chunker else ("chunk", "embed", "index"),
        )
        for each in held
        if each.state == "following" and each.name != serving
    )


@dataclass(frozen=True, kw_only=True)
class Replays:
    """Starts and stops the processes.

    Attributes:
        catalogue: says what is to be done.
        settings: of this worker; those of its processes are the same but for a few.
        program: command that `--stages` and the stages follow.
    """

    catalogue: Catalogue
    settings: WorkerSettings
    program: Sequence[str] = (sys.executable, "-m", "streams")
    _kept: dict[Work, "asyncio.Task[None]"] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Follow the catalogue until cancelled; all processes are ended then."""
        try:
            while True:
                with suppress(Transient, Fatal):
                    await self._look()
                await asyncio.sleep(LOOK_S)
        finally:
            await self._end(list(self._kept))

    async def _look(self) -> None:
        now = await wanted(self.catalogue)
        await self._end([work for work in self._kept if work not in now])
        for work in now - self._kept.keys():
            self._kept[work] = asyncio.create_task(self._keep(work))

    async def _end(self, works: Sequence[Work]) -> None:
        tasks = [self._kept.pop(work) for work in works]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, work: Work) -> None:
        """Run the process, and again when it ends."""
        pause_s = PAUSE_S
        while True:
            began = time.monotonic()
            async with self._process(work) as process:
                code = await process.wait()
            _log.warning("replay_ended", generation=work.generation, code=code)
            pause_s = PAUSE_S if time.monotonic() - began > HEALTHY_S else min(2 * pause_s, PAUSE_MAX_S)
            await asyncio.sleep(pause_s)

    @asynccontextmanager
    async def _process(self, work: Work) -> AsyncIterator[asyncio.subprocess.Process]:
        nice = str(self.settings.replay_nice)
        process = await asyncio.create_subprocess_exec(
            *("nice", "-n", nice, *self.program, "--stages", ",".join(work.stages)),
            env=self._environment(work),
            stdin=asyncio.subprocess.DEVNULL,
        )
        _log.info("replay_started", generation=work.generation, stages=work.stages, pid=process.pid)
        try:
            yield process
        finally:
            if process.returncode is None:
                await _stop(process)

    def _environment(self, work: Work) -> Mapping[str, str]:
        return dict(os.environ) | {
            "HEADRACE_GENERATION": work.generation,
            "HEADRACE_ENCODER_THREADS": str(self.settings.replay_threads),
            "HEADRACE_ENCODER_CHUNKS_PER_S": str(self.settings.replay_chunks_per_s),
            "HEADRACE_METRICS_PORT": "0",
        }


async def _stop(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _main(settings: WorkerSettings) -> None:
    told = asyncio.Event()

    def tell() -> None:
        told.set()
        end_within(END_S, EXIT_LATE)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, tell)
    pool = await open_pool(settings)
    try:
        replays = Replays(catalogue=PostgresCatalogue(pool=pool, alias=settings.generation_alias), settings=settings)
        running = asyncio.create_task(replays.run())
        waiting = asyncio.create_task(told.wait())
        async with _endpoint(settings.metrics_port):
            await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    finally:
        pool.terminate()


@asynccontextmanager
async def _endpoint(port: int) -> AsyncIterator[None]:
    if not port:
        yield
        return
    async with serve_worker_endpoint(port, lambda: {"replay": True}, dict):
        yield


def main() -> None:
    """Run until SIGTERM, with settings from the environment."""
    setup_logging("worker:replay")
    asyncio.run(_main(WorkerSettings()))


if __name__ == "__main__":
    main()
