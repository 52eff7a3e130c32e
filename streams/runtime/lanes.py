"""Lanes: records of one key run one after the other, records of different keys at once, within bounds."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

WAITING_PER_SLOT = 8
"""Records admitted per slot, so that a key which waits does not hold up the others."""

_CANCEL_LIMIT_S = 1.0


class Dropped(Exception):
    """The record is not ours any more, as its partition is being revoked: stop, and do not acknowledge it."""


@dataclass(kw_only=True)
class _Room:
    """The slots of one stage, whoever holds them. `waiting` is empty while some are free."""

    n_free: int
    waiting: "deque[asyncio.Future[None]]" = field(default_factory=deque)
    running: set[float] = field(default_factory=set)

    def leave(self) -> None:
        """Give a slot to who waits longest, or back."""
        while self.waiting:
            first = self.waiting.popleft()
            if not first.done():
                first.set_result(None)
                return
        self.n_free += 1


class Slots:
    """Room for `n` handlers at once. A record that waits for its next attempt holds none."""

    def __init__(self, n: int) -> None:
        self.n = n
        self._room = _Room(n_free=n)
        self._closed = asyncio.Event()
        self._waiting: set[asyncio.Future[None]] = set()

    def reopened(self) -> "Slots":
        """Return the same room, with who is in it, in which attempts may start again."""
        slots = Slots(self.n)
        slots._room = self._room
        return slots

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Hold a slot.

        Raises:
            Dropped: the record is not ours any more; told at once.
        """
        self._check()
        await self._enter()
        began = time.monotonic()
        self._room.running.add(began)
        try:
            self._check()
            yield
        finally:
            self._room.running.discard(began)
            self._room.leave()

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Run beside the slots, taking none; its time counts."""
        began = time.monotonic()
        self._room.running.add(began)
        try:
            yield
        finally:
            self._room.running.discard(began)

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

    async def rest_until(self, event: asyncio.Event) -> None:
        """Wait for an event without a slot.

        Raises:
            Dropped: the record is not ours any more; told at once.
        """
        waiting = [asyncio.ensure_future(each.wait()) for each in (event, self._closed)]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting:
                each.cancel()
        self._check()

    def close(self) -> None:
        """Start no more attempts; those that run go on."""
        self._closed.set()
        for turn in self._waiting:
            if not turn.done():
                turn.set_exception(Dropped())

    @property
    def closed(self) -> bool:
        """Whether no more attempts start."""
        return self._closed.is_set()

    def longest_run_s(self) -> float:
        """Return how long the oldest running attempt has been running, seconds; 0 when none runs."""
        return time.monotonic() - min(self._room.running) if self._room.running else 0.0

    async def _enter(self) -> None:
        if self._room.n_free:
            self._room.n_free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room.waiting.append(turn)
        self._waiting.add(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                # the slot was ours already
                self._room.leave()
            raise
        finally:
            self._waiting.discard(turn)

    def _check(self) -> None:
        if self._closed.is_set():
            raise Dropped


class _Crew:
    """Tasks that are waited for together."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def add(self, task: "asyncio.Task[None]") -> None:
        self._tasks.add(task)
        self._idle.clear()
        task.add_done_callback(self.discard)

    def discard(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._idle.set()

    async def end(self, limit_s: float) -> bool:
        """Wait until no task is left, then cancel those that are; False when there were some."""
        try:
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
        except TimeoutError:
            late = set(self._tasks)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_CANCEL_LIMIT_S)
            return not late
        return True


class Claims:
    """Jobs that go on after their record was acknowledged: they outlive assignments, and end with the process.

    Attributes:
        slots: the stage's; a claimed job keeps the one that it holds.
    """

    def __init__(self, n_slots: int) -> None:
        self.slots = Slots(n_slots)
        self._crew = _Crew()

    def add(self, task: "asyncio.Task[None]") -> None:
        """Take over a job."""
        self._crew.add(task)

    def close(self) -> None:
        """Take over no more jobs, and start no more attempts of those that are here."""
        self.slots.close()

    async def end(self, limit_s: float) -> bool:
        """Let the jobs end within `limit_s`, then cancel them; False when some had to be."""
        self.close()
        return await self._crew.end(limit_s)


@dataclass(kw_only=True)
class Turn:
    """What a job holds of its lane, until it ends or its record is claimed.

    Attributes:
        slots: where its attempts take place.
        leave: hands the job over from its lane and gives the slots to go on with; None while the process stops.
        claimed: whether it has left its lane.
    """

    slots: Slots
    leave: "Callable[[], Slots | None]"
    claimed: bool = field(default=False, init=False)

    def claim(self) -> None:
        """Leave the lane, keeping the slot: the job goes on over rebalances. Called once the record is acknowledged.

        While the process stops it changes nothing: the job gets the time that all jobs get.
        """
        slots = self.leave()
        if slots is not None:
            self.slots, self.claimed = slots, True


Job = Callable[[Turn], Awaitable[None]]
"""Everything about one record, until it is acknowledged. It may raise Dropped; any other exception is fatal."""


class Lanes:
    """The lanes of one stage during one assignment; a rebalance drains them and the next begins with new ones.

    Attributes:
        slots: of this assignment, in the room that all assignments share.
        failed: gets the exception of a job that ended with one; the worker must stop.
    """

    def __init__(self, claims: Claims, failed: "asyncio.Future[None]") -> None:
        self.slots = claims.slots.reopened()
        self.failed = failed
        self._claims = claims
        self._admitted = asyncio.Semaphore(self.slots.n * (1 + WAITING_PER_SLOT))
        self._waiting: dict[Hashable, deque[Job]] = {}
        self._crew = _Crew()

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
        self._start(lane)

    async def drain(self, limit_s: float) -> bool:
        """Drop what waits, let what runs end within `limit_s`, then cancel it; False when something had to be.

        Jobs whose record is claimed are left alone.
        """
        self.slots.close()
        for waiting in self._waiting.values():
            while waiting:
                waiting.pop()
                self._admitted.release()
        # whoever waits for room wakes up and finds the slots closed
        self._admitted.release()
        return await self._crew.end(limit_s)

    def _start(self, lane: Hashable) -> None:
        self._crew.add(asyncio.create_task(self._work(lane)))

    async def _work(self, lane: Hashable) -> None:
        waiting = self._waiting[lane]
        while waiting:
            turn = Turn(slots=self.slots, leave=lambda: self._leave(lane))
            try:
                await waiting.popleft()(turn)
            except Dropped:
                pass
            except Exception as error:
                self.slots.close()
                if not self.failed.done():
                    self.failed.set_exception(error)
            finally:
                if not turn.claimed:
                    self._admitted.release()
            if turn.claimed:
                return
        del self._waiting[lane]

    def _leave(self, lane: Hashable) -> Slots | None:
        """Hand the running job over to the claims and go on with the next one of its key."""
        task = asyncio.current_task()
        if self._claims.slots.closed or task is None:
            return None
        self._claims.add(task)
        self._crew.discard(task)
        self._admitted.release()
        if self._waiting[lane]:
            self._start(lane)
        else:
            del self._waiting[lane]
        return self._claims.slots
