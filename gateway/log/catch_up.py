"""Reads what is older than the memory of a partition, once for all who wait for it."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaException

from backbone.kafka import AtEnd, MissingTopic, Overtaken, Received
from gateway.log.follower import Follower
from gateway.log.memory import Kept, Memory
from gateway.log.reader import Item, OpenReader

BACKLOG_MAX: Final = 500
"""Records that wait for one follower; one that has so many leaves the pass, and joins another when it wants more."""

_RETRY_S: Final = 1.0
_logger = logging.getLogger(__name__)


class CatchUp:
    """At most one reader at a time. A pass goes from the lowest place that is waited for up to the memory.

    A follower that joins while a pass is past its place waits for the next one.
    """

    def __init__(
        self, open_reader: OpenReader, partition: int, memory: Memory, group_of: Callable[[bytes], bytes]
    ) -> None:
        """Args:
        open_reader: opens a reader of the topic.
        partition: to read.
        memory: ends at the present; a pass ends where it begins.
        group_of: tells the group of a record by its key.
        """
        self._open = open_reader
        self._partition = partition
        self._memory = memory
        self._group_of = group_of
        self._joined: set[Follower] = set()
        self._pass: dict[bytes, list[Follower]] = {}
        self._place = 0
        self._running: asyncio.Task[None] | None = None

    async def wait(self, follower: Follower) -> None:
        """Wait until the follower has a backlog, or its place is in the memory."""
        if follower not in self._joined:
            self._joined.add(follower)
            if follower.position >= self._place:
                self._pass.setdefault(follower.group, []).append(follower)
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name=f"catch-up {self._partition}")
        await follower.sleep()

    def leave(self, follower: Follower) -> None:
        """Read no more for this follower."""
        self._joined.discard(follower)
        followers = self._pass.get(follower.group, [])
        if follower in followers:
            followers.remove(follower)
            if not followers:
                del self._pass[follower.group]

    async def close(self) -> None:
        """Stop reading."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self) -> None:
        try:
            while self._joined:
                try:
                    await self._read_up_to_memory()
                except (KafkaException, MissingTopic) as error:
                    _logger.warning("older records cannot be read, trying again: %s", error)
                    await asyncio.sleep(_RETRY_S)
        finally:
            self._running = None

    async def _read_up_to_memory(self) -> None:
        self._place = min(follower.position for follower in self._joined)
        self._pass.clear()
        for follower in self._joined:
            self._pass.setdefault(follower.group, []).append(follower)
        async with self._open({self._partition: self._place}) as reader:
            async for item in reader:
                self._take(item)
                first = self._memory.first
                if not self._pass or (first is not None and self._place >= first):
                    break
                if isinstance(item, AtEnd):
                    # The end of the log is before the memory: the topic was made anew.
                    self._place = max(self._place, self._memory.next)
                    break
        for follower in self._in_pass():
            follower.position = max(follower.position, self._place)
            self._release(follower)

    def _take(self, item: Item) -> None:
        match item:
            case Received(offset=offset):
                self._place = offset + 1
                group = self._group_of(item.key or b"")
                if followers := self._pass.get(group):
                    record = Kept.of(item)
                    for follower in list(followers):
                        self._give(follower, record)
            case AtEnd(offset=offset):
                self._place = offset
            case Overtaken(resumed=resumed):
                self._place = resumed
                for follower in self._in_pass():
                    if follower.position < resumed:
                        follower.lost = True
                        follower.position = resumed
                        follower.wake()

    def _give(self, follower: Follower, record: Kept) -> None:
        if follower.position > record.offset:
            return
        if follower.backlog is None:
            follower.backlog = deque()
        follower.backlog.append(record)
        follower.position = record.offset + 1
        if len(follower.backlog) >= BACKLOG_MAX:
            self._release(follower)
        else:
            follower.wake()

    def _in_pass(self) -> list[Follower]:
        return [follower for followers in self._pass.values() for follower in followers]

    def _release(self, follower: Follower) -> None:
        self.leave(follower)
        follower.wake()
