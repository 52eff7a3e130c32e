"""Isolation: after a worker died, the records that may have killed it run alone, so that the one that did is known.

A record is blamed only if nothing else ran in the whole process, whichever the stage. What runs alone is marked before
it starts; where the next holder finds the mark, the record has killed once more. After the third death it is given up.

A record may stand in the log several times, since a worker that dies so has not committed the stage before, which
publishes it again. So what was given up is remembered for a while, and given up again without being run.

Not all records can be looked at so, for each waits for the others. The window holds the first ones from the committed
offset on: as many as the stage has slots, and some that were done and not committed. Each is alone for a bounded time.
Window and time double with every further death at that offset.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import structlog

from streams.errors import Transient
from streams.runtime.gate import Gate, Leave
from streams.runtime.holders import REMEMBERED_S, Holders, Note, Place
from streams.runtime.lanes import Dropped, Slots

DEATHS_MAX = 3
WINDOW_MIN = 16
ALONE_S = 20.0
SUSPECT_WAITS_S = 3.0
"""What others get done and committed before a suspect may end the worker once more."""
STORE_LIMIT_S = 5.0

_DOUBLINGS_MAX = 12
_log = structlog.get_logger(__name__)


@dataclass(kw_only=True)
class _Watched:
    """A partition in which records shall run alone: its suspect, and where it is due, the next `n_left` before `end`.

    `waiting` are offsets of those that came and had not their turn yet.
    """

    place: Place
    note: Note
    n_left: int = 0
    end: int = 0
    suspect_came: bool = False
    waiting: set[int] = field(default_factory=set)

    @property
    def through(self) -> bool:
        """Whether no record is to come, and none is under way."""
        return self.n_left == 0 and not self.waiting and (self.note.suspect is None or self.suspect_came)


@dataclass(frozen=True, kw_only=True)
class Solo:
    """One record that shall run alone.

    Attributes:
        offset: of the record.
        deaths: of workers, counted for it; 0: it was in a crowd.
        alone_s: how long others wait for it, seconds; None: until its attempt ends.
        known: the same record was given up here not long ago.
        identity: what it is known by, in all its copies.
    """

    offset: int
    deaths: int = 0
    alone_s: float | None = None
    known: bool = False
    identity: bytes = b""
    _isolation: "Isolation"
    _watched: _Watched

    @property
    def given_up(self) -> bool:
        """Whether it has killed often enough."""
        return self.known or self.deaths >= DEATHS_MAX

    @property
    def readable(self) -> bool:
        """Whether no worker has died of giving it up, as it may, if only because the record is decoded for that."""
        return not self.known and self.deaths <= DEATHS_MAX

    @asynccontextmanager
    async def running(self, slots: Slots) -> AsyncIterator[Leave]:
        """Run alone, and marked so.

        Where others run on for too long it runs beside them, unmarked; where it takes too long itself they are let in,
        and the mark goes. Either way it had its turn, and comes for longer if the worker dies once more.

        Raises:
            Dropped: the record is not ours any more.
        """
        gate = self._isolation.gate
        if self.deaths:
            await slots.rest(self._isolation.suspect_waits_s)
        async with gate.alone(slots, self.alone_s) as alone_no_more:
            if alone_no_more is not None:
                async with self._marked(alone_no_more) as leave:
                    yield leave
                return
        async with gate.together(slots) as leave:
            try:
                yield leave
            finally:
                await self._isolation.ended(self)

    @asynccontextmanager
    async def marked(self) -> AsyncIterator[None]:
        """Be marked while it is given up, so that a worker that dies of that is counted, too; then be remembered."""
        await self._isolation.mark(self)
        yield
        await self._isolation.condemn(self)

    @asynccontextmanager
    async def _marked(self, alone_no_more: Leave) -> AsyncIterator[Leave]:
        await self._isolation.mark(self)
        is_marked, well, overdue = True, True, False

        async def leave() -> None:
            nonlocal is_marked
            if is_marked:
                is_marked = False
                await self._isolation.clear(self, well=well)
                await alone_no_more()

        async def no_longer(seconds: float) -> None:
            nonlocal overdue
            await asyncio.sleep(seconds)
            overdue = True
            _log.info("runs_alone_no_more", offset=self.offset, after_s=seconds)
            await leave()

        limit = None if self.alone_s is None else asyncio.create_task(no_longer(self.alone_s))
        try:
            yield leave
        except asyncio.CancelledError:
            well = False
            raise
        finally:
            if limit is not None and overdue:
                # it may be taking the mark away just now
                await asyncio.wait({limit})
            elif limit is not None:
                limit.cancel()
            await leave()


class Isolation:
    """What one stage of a process knows of those that held its partitions before.

    Attributes:
        gate: of the process.
        lost: called when a partition turns out to be another's, so that the stage begins anew.
        suspect_waits_s: how long a suspect lets others go on before it asks to be alone, seconds.

    `window` records of a partition run alone after a first death there, each for `alone_s` at most.
    """

    def __init__(
        self,
        *,
        holders: Holders,
        gate: Gate,
        group: str,
        window: int,
        lost: Callable[[], None],
        alone_s: float = ALONE_S,
        suspect_waits_s: float = SUSPECT_WAITS_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.gate = gate
        self.lost = lost
        self.suspect_waits_s = suspect_waits_s
        self._holders = holders
        self._group = group
        self._window = window
        self._alone_s = alone_s
        self._now = now
        self._held: list[Place] = []
        self._watched: dict[tuple[str, int], _Watched] = {}
        self._killers: dict[tuple[str, int], tuple[bytes, float]] = {}
        self._kept = False

    async def begin(
        self,
        positions: Mapping[tuple[str, int], int],
        ends: Callable[[Iterable[tuple[str, int]]], Awaitable[Mapping[tuple[str, int], int]]],
    ) -> None:
        """Take the partitions that were assigned, before a record of them comes.

        Where the store is away for some seconds, the stage goes on without: what killed the worker before may do so
        again, and is found the next time.

        Args:
            positions: committed offset by (topic id, partition); 0 where none is.
            ends: asks for the offset behind the last record of partitions.
        """
        self._watched, self._killers, self._held = {}, {}, [self._place(*key) for key in positions]
        try:
            async with asyncio.timeout(STORE_LIMIT_S):
                notes = await self._holders.take({self._place(*key): position for key, position in positions.items()})
        except (TimeoutError, Transient) as error:
            _log.warning("holders_not_noted", group=self._group, error=repr(error))
            return
        due = [(place.topic_id, place.partition) for place, note in notes.items() if note.due]
        last = await ends(due) if due else {}
        idle = []
        for place, note in notes.items():
            key = (place.topic_id, place.partition)
            if note.killer is not None:
                self._remember(key, note.killer)
            if note.due and last[key] <= positions[key]:
                idle.append(place)
            elif note.due:
                self._watched[key] = _Watched(
                    place=place, note=note, n_left=self._window * _doubled(note), end=last[key]
                )
            elif note.suspect is not None:
                self._watched[key] = _Watched(place=place, note=note)
        if self._watched:
            _log.warning(
                "records_shall_run_alone",
                group=self._group,
                due=[place.partition for place, note in notes.items() if note.due and place not in idle],
                suspects={
                    f"{place.partition}:{note.suspect}": note.deaths
                    for place, note in notes.items()
                    if note.suspect is not None
                },
            )
        if idle:
            await self._try(self._holders.settle(idle, idle=True))

    def of(self, topic_id: str, partition: int, offset: int) -> Solo | None:
        """Return how the next record of a partition runs alone; None: it runs as any other."""
        watched = self._watched.get((topic_id, partition)) if self._watched else None
        if watched is None:
            return None
        note = watched.note
        in_window = watched.n_left > 0
        # the last one may be gone from the log; then the first behind it closes the window
        watched.n_left = 0 if offset + 1 >= watched.end else max(0, watched.n_left - 1)
        if offset == note.suspect:
            watched.suspect_came, deaths, alone_s = True, note.deaths, None
        elif in_window:
            deaths, alone_s = 0, self._alone_s * _doubled(note)
        else:
            return None
        watched.waiting.add(offset)
        return Solo(offset=offset, deaths=deaths, alone_s=alone_s, _isolation=self, _watched=watched)

    def judged(self, solo: Solo | None, topic_id: str, partition: int, offset: int, identity: bytes) -> Solo | None:
        """Return how a record runs whose turn has come: as `of` said, unless it was given up here not long ago.

        Args:
            solo: what `of` said.
            topic_id, partition, offset: where it stands.
            identity: what it is known by, in all its copies.
        """
        if solo is not None:
            return replace(solo, identity=identity, known=self._is_killer((topic_id, partition), identity))
        if not self._is_killer((topic_id, partition), identity):
            return None
        watched = _Watched(place=self._place(topic_id, partition), note=Note())
        return Solo(offset=offset, known=True, identity=identity, _isolation=self, _watched=watched)

    @property
    def quiet(self) -> bool:
        """Whether nothing was given up here not long ago."""
        return not self._killers

    async def end(self) -> None:
        """Take the notes back: what was assigned is given up in good order."""
        held, self._held, self._watched = self._held, [], {}
        if held and not self._kept:
            await self._try(self._holders.leave(held))

    def keep(self) -> None:
        """Let the notes stand as they are: the process ends, in no good order."""
        self._kept = True

    async def mark(self, solo: Solo) -> None:
        """Note that a record runs alone.

        Raises:
            Dropped: the partition is another's.
        """
        held = await self._try(self._holders.mark(solo._watched.place, solo.offset))
        if held is False:
            _log.warning("partition_is_anothers", group=self._group, partition=solo._watched.place.partition)
            self.lost()
            raise Dropped

    async def clear(self, solo: Solo, *, well: bool) -> None:
        """Note that a record runs alone no more; `well`: its attempt came to an end, so it is no suspect."""
        if self._kept:
            return
        await self._try(self._holders.clear(solo._watched.place, solo.offset, well=well))
        if well:
            await self.ended(solo)

    async def condemn(self, solo: Solo) -> None:
        """Note that a record was given up."""
        place = solo._watched.place
        self._remember((place.topic_id, place.partition), solo.identity)
        await self._try(self._holders.condemn(place, solo.offset, solo.identity))
        await self.ended(solo)

    async def ended(self, solo: Solo) -> None:
        """Note that a record had its turn."""
        watched = solo._watched
        watched.waiting.discard(solo.offset)
        key = (watched.place.topic_id, watched.place.partition)
        if watched.through and self._watched.get(key) is watched:
            del self._watched[key]
            if watched.note.due:
                await self._try(self._holders.settle([watched.place], idle=False))

    async def _try(self, call: Awaitable[bool | None]) -> bool | None:
        """Wait for the store for a bounded time; a note that is not written costs a death more, and no record."""
        try:
            async with asyncio.timeout(STORE_LIMIT_S):
                return await call
        except (TimeoutError, Transient) as error:
            _log.warning("note_not_written", group=self._group, error=repr(error))
            return None

    def _remember(self, key: tuple[str, int], identity: bytes) -> None:
        self._killers[key] = (identity, self._now() + REMEMBERED_S)

    def _is_killer(self, key: tuple[str, int], identity: bytes) -> bool:
        if key not in self._killers:
            return False
        known, until = self._killers[key]
        if self._now() > until:
            del self._killers[key]
            return False
        return identity == known

    def _place(self, topic_id: str, partition: int) -> Place:
        return Place(group=self._group, topic_id=topic_id, partition=partition)


def _doubled(note: Note) -> int:
    return 1 << min(note.crashes - 1, _DOUBLINGS_MAX)
