"""What this process has read of one partition, and who waits for more."""

import asyncio
from collections.abc import Callable

from backbone.kafka import AtEnd, Overtaken, Received
from gateway.log.catch_up import CatchUp
from gateway.log.follower import Follower
from gateway.log.memory import Kept, Memory
from gateway.log.reader import Item


class Tail:
    """The end of one partition.

    Attributes:
        memory: the last records.
        catch_up: reads what is older.
        current: the partition was read to its end at least once.
        n_holders: who wants it to be read.
        left_s: when the last of them went, on the clock of the event loop.
    """

    def __init__(self, memory: Memory, catch_up: CatchUp, group_of: Callable[[bytes], bytes]) -> None:
        """Args:
        memory: empty.
        catch_up: on the same memory.
        group_of: tells the group of a record by its key.
        """
        self.memory = memory
        self.catch_up = catch_up
        self.n_holders = 0
        self.left_s = 0.0
        self._group_of = group_of
        self._waiting: dict[bytes, list[Follower]] = {}
        self._started = asyncio.Event()
        self._current = asyncio.Event()

    @property
    def current(self) -> bool:
        """See the class."""
        return self._current.is_set()

    def hear(self, item: Item) -> None:
        """Take what was read next, and wake those who wait for it."""
        match item:
            case Received(offset=offset):
                group = self._group_of(item.key or b"")
                self.memory.add(group, Kept.of(item))
                for follower in self._waiting.pop(group, ()):
                    # Nothing stood in between for it, however much was read and forgotten meanwhile.
                    follower.position = max(follower.position, offset)
                    follower.wake()
            case AtEnd(offset=offset):
                if self.memory.first is None:
                    self.memory.start(offset)
                self._current.set()
            case Overtaken(resumed=resumed):
                begun_anew = self.memory.first is not None and resumed < self.memory.next
                self.memory.start(resumed)
                for follower in [each for group in self._waiting.values() for each in group]:
                    if begun_anew:
                        follower.position = resumed
                    follower.wake()
        self._started.set()

    async def wait(self, follower: Follower) -> None:
        """Wait for a record of the follower's group."""
        waiting = self._waiting.setdefault(follower.group, [])
        waiting.append(follower)
        try:
            await follower.sleep()
        finally:
            if waiting is self._waiting.get(follower.group):
                waiting.remove(follower)
                if not waiting:
                    del self._waiting[follower.group]

    async def until_started(self) -> None:
        """Wait until it is known where the memory begins."""
        await self._started.wait()

    async def until_current(self) -> None:
        """Wait until the partition was read to its end once."""
        await self._current.wait()
