"""Lanes: records of one key run one after the other, records of different keys at once, within bounds."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from contextlib import asynccontextmanager

WAITING_PER_SLOT = 8
"""Records admitted per slot, so that a key which waits does not hold up the others."""

_CANCEL_LIMIT_S = 1.0


class Dropped(Exception):
    """The record is not ours any more, as its partition is being revoked: stop, and do not acknowledge it."""


class Slots:
    """Room for a number of handlers at once. A record that waits for its next attempt holds none."""

    def __init__(self, n: int) -> None:
        self._free = asyncio.Semaphore(n)
        self._closed = asyncio.Event()
        self._running: set[float] = set()

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Hold a slot.

        Raises:
            Dropped: the record is not ours any more.
        """
        async with self._free:
            self._check()
            began = time.monotonic()
            self._running.add(began)
            try:
                yield
            finally:
                self._running.discard(began)

    async def rest(self, seconds: float) -> None:
        """Wait without a slot.

        Raises:
            Dropped: the record is not ours any more; told at once.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            pass
        self._check()

    def close(self) -> None:
        """Start no more attempts; those that run go on."""
        self._closed.set()

    @property
    def closed(self) -> bool:
        """Whether no more attempts start."""
        return self._closed.is_set()

    def longest_run_s(self) -> float:
        """Return how long the oldest running attempt has been running, seconds; 0 when none runs."""
        return time.monotonic() - min(self._running) if self._running else 0.0

    def _check(self) -> None:
        if self._closed.is_set():
            raise Dropped


Job = Callable[[Slots], Awaitable[None]]
"""Everything about one record, until it is acknowledged. It may raise Dropped; any other exception is fatal."""


class Lanes:
    """The lanes of one stage during one assignment; a rebalance drains them and the next begins with new ones.

    Attributes:
        failed: gets the exception of a job that ended with one; the worker must stop.
    """

    def __init__(self, n_slots: int, failed: "asyncio.Future[None]") -> None:
        self.slots = Slots(n_slots)
        self.failed = failed
        self._admitted = asyncio.Semaphore(n_slots * (1 + WAITING_PER_SLOT))
        self._waiting: dict[Hashable, deque[Job]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, key: Hashable | None, job: Job) -> None:
        """Queue a job in the lane of its key (None: a lane of its own), waiting for room.

        After `drain` the job is dropped in silence.
        """
        await self._admitted.acquire()
        if self.slots.closed:
            # and so does the next who waits
            self._admitted.release()
            return
        lane = object() if key is None else key
        if lane in self._waiting:
            self._waiting[lane].append(job)
            return
        self._waiting[lane] = deque([job])
        task = asyncio.create_task(self._work(lane))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def drain(self, limit_s: float) -> bool:
        """Drop what waits, let what runs end within `limit_s`, then cancel it; False when something had to be."""
        self.slots.close()
        for waiting in self._waiting.values():
            while waiting:
                waiting.pop()
                self._admitted.release()
        # whoever waits for room wakes up and finds the slots closed
        self._admitted.release()
        running = set(self._tasks)
        if not running:
            return True
        _, late = await asyncio.wait(running, timeout=limit_s)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_CANCEL_LIMIT_S)
        return not late

    async def _work(self, lane: Hashable) -> None:
        waiting = self._waiting[lane]
        try:
            while waiting:
                job = waiting.popleft()
                try:
                    await job(self.slots)
                except Dropped:
                    pass
                except Exception as error:
                    self.slots.close()
                    if not self.failed.done():
                        self.failed.set_exception(error)
                finally:
                    self._admitted.release()
        finally:
            del self._waiting[lane]
