"""All partitions of a topic, followed as one."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from gateway.log.follower import Follower
from gateway.log.memory import Kept
from gateway.log.shared import SharedLog


class Merged:
    """Gives the records of one group in all partitions; those of one partition in order.

    Attributes:
        positions: for each partition, the first offset that is not done.
    """

    def __init__(self, followers: Mapping[int, Follower]) -> None:
        """Args:
        followers: of each partition.
        """
        self._followers = followers

    @property
    def positions(self) -> dict[int, int]:
        """See the class."""
        return {partition: follower.position for partition, follower in self._followers.items()}

    async def go_to(self, positions: Mapping[int, int]) -> None:
        """Go on from these offsets; in partitions that are not named, and where a topic is shorter, from the end."""
        for partition, follower in self._followers.items():
            await follower.go_to_end()
            follower.position = min(follower.position, positions.get(partition, follower.position))

    async def next(self, limit: int) -> list[Kept]:
        """Wait for records, and return at most so many.

        Raises:
            OutOfLog: some of what was to come is gone; the next call goes on with what there is.
        """
        while True:
            found: list[Kept] = []
            for follower in self._followers.values():
                while len(found) < limit and (record := follower.poll()) is not None:
                    found.append(record)
            if found:
                return found
            await _any(list(self._followers.values()))


async def _any(followers: Sequence[Follower]) -> None:
    waiting = [asyncio.create_task(follower.more()) for follower in followers]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@contextmanager
def follow_all(log: SharedLog, partitions: Sequence[int], group: bytes) -> Iterator[Merged]:
    """Follow a group in all these partitions, as long as the block runs."""
    with ExitStack() as stack:
        yield Merged({each: stack.enter_context(log.follow(each, group, 0)) for each in partitions})
