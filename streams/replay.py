"""The replay worker: keeps a process for every index generation that does not answer.

As `python -m streams.replay`. Each process chunks (where the chunker is not that of the live lane), embeds and indexes
for one generation: from the beginning of the log, then behind live traffic. A second one writes it to OpenSearch where
it is searched there. Their groups remember how far they are, so a process may be killed at any time. They are nice, so
live work goes first, and they have none of the live partitions. Their metrics are served here, each with its
generation as a label. They end with this process, however it ends.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from backbone.postgres import open_pool
from backbone.settings import WorkerSettings
from backbone.telemetry import REPLAY_RUNNING, end_within, serve_worker_endpoint, setup_logging
from streams.adapters.postgres_catalogue import PostgresCatalogue
from streams.adapters.scraped import Scraped
from streams.errors import Fatal, Transient
from streams.ports import Catalogue
from streams.runtime.worker import EXIT_FORCED, EXIT_LATE

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

    @property
    def embeds(self) -> bool:
        """Whether it is the one that stands for the replay of its generation in metrics."""
        return "embed" in self.stages


async def wanted(catalogue: Catalogue) -> frozenset[Work]:
    """Return the work that is to be done now.

    Raises:
        Transient: the catalogue is away.
        Fatal: no generation answers.
    """
    serving = await catalogue.serving()
    held = await catalogue.held()
    live_chunker = next((each.chunker for each in held if each.name == serving), None)
    candidates = [each for each in held if each.state == "following" and each.name != serving]
    return frozenset(
        Work(
            generation=each.name,
            stages=("embed", "index") if each.chunker == live_chunker else ("chunk", "embed", "index"),
        )
        for each in candidates
    ) | frozenset(
        # in a process of its own, for it waits while OpenSearch is away
        Work(generation=each.name, stages=("index_opensearch",))
        for each in candidates
        if each.in_opensearch
    )


@dataclass(frozen=True, kw_only=True)
class Replays:
    """Starts and stops the processes.

    Attributes:
        catalogue: says what is to be done.
        settings: of this worker; those of its processes are the same but for a few.
        program: command that `--stages` and the stages follow; it ends when its standard input does.
        metrics: takes the ports on which the processes serve theirs, by generation.
    """

    catalogue: Catalogue
    settings: WorkerSettings
    program: Sequence[str] = (sys.executable, "-m", "streams", "--with-parent")
    metrics: Scraped = field(default_factory=lambda: Scraped(label="generation"))
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
        for work in works:
            with suppress(KeyError):
                if work.embeds:
                    REPLAY_RUNNING.remove(work.generation)

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
        nice, port = str(self.settings.replay_nice), _free_port()
        process = await asyncio.create_subprocess_exec(
            *("nice", "-n", nice, *self.program, "--stages", ",".join(work.stages)),
            env=self._environment(work, port),
            stdin=asyncio.subprocess.PIPE,
        )
        _log.info("replay_started", generation=work.generation, stages=work.stages, pid=process.pid)
        if work.embeds:
            self.metrics.ports[work.generation] = port
            REPLAY_RUNNING.labels(work.generation).set(1)
        try:
            yield process
        finally:
            if work.embeds:
                REPLAY_RUNNING.labels(work.generation).set(0)
                self.metrics.ports.pop(work.generation, None)
            if process.returncode is None:
                await _stop(process)

    def _environment(self, work: Work, port: int) -> Mapping[str, str]:
        return dict(os.environ) | {
            "HEADRACE_GENERATION": work.generation,
            "HEADRACE_ENCODER_THREADS": str(self.settings.replay_threads or encoder_threads(os.cpu_count() or 1)),
            "HEADRACE_ENCODER_CHUNKS_PER_S": str(self.settings.replay_chunks_per_s),
            "HEADRACE_METRICS_PORT": str(port),
        }


def encoder_threads(cores: int) -> int:
    """Return how many threads the encoder of a replay has if nothing else is said.

    However nice it is, what wakes on a core that it holds waits for a moment, and a question wakes a dozen processes,
    one after the other. So it leaves half of the cores alone.
    """
    return max(1, cores // 2)


def _free_port() -> int:
    """Return a port that nobody has; a process that finds it taken all the same is started again, with another one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stand_back(nice: int) -> None:
    """Let other sessions go first.

    Where Linux groups processes by session (`sched_autogroup_enabled`), niceness counts only inside of one, and between
    them that of the session. Done only by the leader of a session, which nobody else's work is in.
    """
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(nice))


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
        if told.is_set():
            _log.warning("stopped_at_once")
            os._exit(EXIT_FORCED)
        told.set()
        end_within(END_S, EXIT_LATE)

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, tell)
    pool = await open_pool(settings)
    try:
        replays = Replays(catalogue=PostgresCatalogue(pool=pool, alias=settings.generation_alias), settings=settings)
        running = asyncio.create_task(replays.run())
        waiting = asyncio.create_task(told.wait())
        async with _endpoint(settings.metrics_port, replays.metrics):
            await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    finally:
        pool.terminate()


@asynccontextmanager
async def _endpoint(port: int, processes: Scraped) -> AsyncIterator[None]:
    if not port:
        yield
        return
    async with serve_worker_endpoint(port, lambda: {"replay": True}, dict, processes):
        yield


def main() -> None:
    """Run until SIGTERM, with settings from the environment."""
    setup_logging("worker:replay")
    settings = WorkerSettings()
    stand_back(settings.replay_nice)
    asyncio.run(_main(settings))


if __name__ == "__main__":
    main()
