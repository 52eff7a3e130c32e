"""One reader of a topic for all of this process."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Final

from confluent_kafka import KafkaException

from backbone.kafka import Last, MissingTopic, Start
from gateway.log.catch_up import CatchUp
from gateway.log.follower import Follower
from gateway.log.memory import Memory
from gateway.log.reader import OpenReader, Reader
from gateway.log.tail import Tail

MEMORY_MAX_BYTES: Final = 8 * 1024 * 1024
"""Of one partition."""
WARM_RECORDS: Final = 5_000
"""A partition is read from so many records before its end: those who lost another gateway find their place at once."""
LINGER_S: Final = 30.0
"""A partition that nobody follows is read on for this long."""

_RECONNECT_S: Final = 1.0
_LOOK_S: Final = 5.0
_logger = logging.getLogger(__name__)


def whole_key(key: bytes) -> bytes:
    """Let records of one key be a group."""
    return key


def tenant_of(key: bytes) -> bytes:
    """Let records of one tenant be a group, where keys are `tenant/document`."""
    return key.partition(b"/")[0]


class SharedLog:
    """Reads the partitions that somebody follows or holds, each once, whatever the number of followers.

    Attributes:
        alive: the reader is open.
    """

    def __init__(
        self,
        open_reader: OpenReader,
        *,
        group_of: Callable[[bytes], bytes] = whole_key,
        memory_max_bytes: int = MEMORY_MAX_BYTES,
        warm_records: int = WARM_RECORDS,
        linger_s: float = LINGER_S,
    ) -> None:
        """Args:
        open_reader: opens a reader of the topic.
        group_of: tells the group of a record by its key; followers follow one group.
        memory_max_bytes: of the last records of each partition.
        warm_records: see WARM_RECORDS.
        linger_s: see LINGER_S.
        """
        self.alive = False
        self._open = open_reader
        self._group_of = group_of
        self._memory_max_bytes = memory_max_bytes
        self._warm_records = warm_records
        self._linger_s = linger_s
        self._tails: dict[int, Tail] = {}
        self._changed = asyncio.Event()

    def tail(self, partition: int) -> Tail | None:
        """Return what was read of a partition; None where it is not read."""
        return self._tails.get(partition)

    def hold(self, partition: int) -> Tail:
        """Have a partition read until `release`."""
        tail = self._tails.get(partition)
        if tail is None:
            memory = Memory(self._memory_max_bytes)
            catch_up = CatchUp(self._open, partition, memory, self._group_of)
            tail = self._tails[partition] = Tail(memory, catch_up, self._group_of)
            self._changed.set()
        tail.n_holders += 1
        return tail

    def release(self, partition: int) -> None:
        """Undo one `hold`."""
        tail = self._tails[partition]
        tail.n_holders -= 1
        tail.left_s = asyncio.get_running_loop().time()

    @contextmanager
    def follow(self, partition: int, group: bytes, position: int) -> Iterator[Follower]:
        """Follow the records of a group from this offset on."""
        tail = self.hold(partition)
        follower = Follower(tail, group, position)
        try:
            yield follower
        finally:
            tail.catch_up.leave(follower)
            self.release(partition)

    async def run(self) -> None:
        """Read until cancelled; where Kafka is away, wait and go on from the same place."""
        try:
            while True:
                await self._until_wanted()
                try:
                    await self._read()
                except (KafkaException, MissingTopic) as error:
                    _logger.warning("records cannot be read, trying again: %s", error)
                    await asyncio.sleep(_RECONNECT_S)
        finally:
            for tail in self._tails.values():
                await tail.catch_up.close()

    async def _until_wanted(self) -> None:
        while not self._tails:
            self._changed.clear()
            await self._changed.wait()

    async def _read(self) -> None:
        async with self._open(self._starts(self._tails)) as reader:
            self.alive = True
            changing = asyncio.create_task(self._change(reader), name="partitions")
            reading = asyncio.create_task(self._hear(reader), name="reading")
            try:
                done, _ = await asyncio.wait({changing, reading}, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
            finally:
                self.alive = False
                for task in (changing, reading):
                    task.cancel()
                await asyncio.gather(changing, reading, return_exceptions=True)

    async def _hear(self, reader: Reader) -> None:
        async for item in reader:
            tail = self._tails.get(item.partition)
            if tail is not None:
                tail.hear(item)

    async def _change(self, reader: Reader) -> None:
        """Add and drop partitions; ends when there is none left."""
        while self._tails:
            self._changed.clear()
            missing = {p: tail for p, tail in self._tails.items() if p not in reader.partitions}
            if missing:
                await reader.add(self._starts(missing))
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(min(_LOOK_S, self._linger_s)):
                    await self._changed.wait()
            now_s = asyncio.get_running_loop().time()
            for partition, tail in list(self._tails.items()):
                if tail.n_holders == 0 and now_s - tail.left_s >= self._linger_s:
                    reader.drop(partition)
                    del self._tails[partition]

    def _starts(self, tails: Mapping[int, Tail]) -> dict[int, Start]:
        return {
            partition: Last(self._warm_records) if tail.memory.first is None else tail.memory.next
            for partition, tail in tails.items()
        }
