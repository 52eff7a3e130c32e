"""One reader's place in one partition."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from gateway.log.memory import Kept

if TYPE_CHECKING:
    from gateway.log.tail import Tail

_AHEAD_S: Final = 2.0


class OutOfLog(Exception):
    """Kafka no longer holds what comes next; the follower goes on with what it does hold."""


class Follower:
    """Gives the records of one group in one partition, each once, in order.

    It keeps a place and no records: they come from the memory that all share, and what is older from a catch-up. So a
    follower that is slow costs nothing and loses nothing.

    Attributes:
        position: what stands before is done.
    """

    __slots__ = ("_tail", "_woken", "backlog", "group", "lost", "position")

    def __init__(self, tail: "Tail", group: bytes, position: int) -> None:
        """Args:
        tail: of the partition.
        group: whose records are wanted.
        position: first offset wanted.
        """
        self._tail = tail
        self._woken: asyncio.Future[None] | None = None
        self.group = group
        self.position = position
        self.backlog: deque[Kept] | None = None
        self.lost = False

    async def next(self) -> Kept:
        """Wait for the next record; a wait that is given up loses nothing.

        Raises:
            OutOfLog: see there; the next call goes on.
        """
        record = await self._next(None)
        assert record is not None
        return record

    async def at(self, offset: int) -> Kept | None:
        """Return the record at this offset, which becomes the place to go on from.

        Returns:
            None where it is not of this group, or is not there (any more); the place is past it then.
        """
        await self._tail.until_current()
        self.position = offset
        try:
            # Another process may have read a little further than this one.
            ahead = offset >= self._tail.memory.next
            async with asyncio.timeout(_AHEAD_S if ahead else None):
                record = await self._next(offset)
        except (OutOfLog, TimeoutError):
            return None
        return record if record is not None and record.offset == offset else None

    async def until_now(self) -> list[Kept]:
        """Return all that there is up to the present, without waiting for more.

        Raises:
            OutOfLog: see there.
        """
        await self._tail.until_current()
        records, end = [], self._tail.memory.next - 1
        while (record := await self._next(end)) is not None:
            records.append(record)
        return records

    async def go_to_end(self) -> None:
        """Go to the present end of the partition, once that is known."""
        await self._tail.until_current()
        self.position = self._tail.memory.next

    @property
    def caught_up(self) -> bool:
        """Whether the partition was read to its end, and all that was read for this group is done."""
        memory = self._tail.memory
        return (
            self._tail.current
            and not self.backlog
            and memory.first is not None
            and self.position >= memory.first
            and memory.after(self.group, self.position) is None
        )

    async def sleep(self) -> None:
        """Wait to be woken."""
        self._woken = asyncio.get_running_loop().create_future()
        try:
            await self._woken
        finally:
            self._woken = None

    def wake(self) -> None:
        """Let it look again."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def poll(self) -> Kept | None:
        """Return the next record if it is at hand; None says nothing of what is to come.

        Raises:
            OutOfLog: see there.
        """
        memory = self._tail.memory
        if self.lost:
            self.lost = False
            raise OutOfLog
        if self.backlog:
            return self.backlog.popleft()
        if memory.first is None or self.position < memory.first:
            return None
        record = memory.after(self.group, self.position)
        self.position = max(self.position, memory.next) if record is None else record.offset + 1
        return record

    async def more(self) -> None:
        """Wait until `poll` may return a record, after it did not."""
        memory = self._tail.memory
        if memory.first is None:
            await self._tail.until_started()
        elif self.position >= memory.first:
            await self._tail.wait(self)
        else:
            await self._tail.catch_up.wait(self)

    async def _next(self, last: int | None) -> Kept | None:
        """Wait for the next record; None once it is known that there is none up to offset `last`."""
        while True:
            record = self.poll()
            if record is not None or (last is not None and self.position > last):
                return record
            await self.more()
