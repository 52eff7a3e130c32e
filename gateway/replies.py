"""The answers topic as this gateway reads it."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from backbone.telemetry import REPLIES_DROPPED
from gateway.log.follower import Follower
from gateway.log.memory import Kept
from gateway.log.reader import OpenReader
from gateway.log.shared import SharedLog
from schemas.codec import BlobMissing, Blobs, Undecodable, decode
from schemas.events import Reply

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Heard:
    """A reply, and its place in the log as `partition:offset`."""

    reply: Reply
    place: str


class ReplyFollower:
    """The replies to one question of one tenant, each once, in the order of the log. Methods as in `Follower`."""

    __slots__ = ("_blobs", "_follower", "_tenant")

    def __init__(self, follower: Follower, tenant: str, blobs: Blobs) -> None:
        """Args:
        follower: of the records whose key is the question's id.
        tenant: replies of any other are left out.
        blobs: holds replies over 1 MiB.
        """
        self._follower = follower
        self._tenant = tenant
        self._blobs = blobs

    async def next(self, until_s: float) -> Heard:
        """Wait for the next reply.

        Args:
            until_s: on the clock of the event loop.

        Raises:
            TimeoutError: none came; the next call goes on from there.
            OutOfLog: what would come next is out of the log; the next call goes on with what there is.
        """
        while True:
            async with asyncio.timeout_at(until_s):
                kept = await self._follower.next()
            if (heard := await self._heard(kept)) is not None:
                return heard

    async def at(self, offset: int) -> Heard | None:
        """Return the reply at this offset, which becomes the place to go on from; None where it is none of these."""
        kept = await self._follower.at(offset)
        return None if kept is None else await self._heard(kept)

    async def until_now(self) -> list[Heard]:
        """Return the replies up to the present end of the log."""
        heard = [await self._heard(kept) for kept in await self._follower.until_now()]
        return [each for each in heard if each is not None]

    def go_to(self, offset: int) -> None:
        """Go on from this offset."""
        self._follower.position = offset

    @property
    def caught_up(self) -> bool:
        """Whether the log was read to its end, and all that it holds was given out."""
        return self._follower.caught_up

    async def _heard(self, kept: Kept) -> Heard | None:
        try:
            reply = await decode(kept.wire(), Reply, blobs=self._blobs)
        except (Undecodable, BlobMissing, OSError) as error:
            REPLIES_DROPPED.labels("unreadable").inc()
            _logger.error("reply at %s:%s cannot be read: %s", kept.partition, kept.offset, error)
            return None
        if reply is None or reply.tenant != self._tenant:
            return None
        return Heard(reply, f"{kept.partition}:{kept.offset}")


class Replies:
    """Follows questions in the answers topic, any number of readers a question.

    Attributes:
        log: the topic.
    """

    def __init__(self, open_reader: OpenReader, blobs: Blobs) -> None:
        """Args:
        open_reader: opens a reader of the answers topic.
        blobs: holds replies over 1 MiB.
        """
        self.log = SharedLog(open_reader)
        self._blobs = blobs
        self._leased: int | None = None

    def lease(self, partition: int) -> None:
        """Let the replies to new questions go to this partition from now on."""
        self.log.hold(partition)
        if self._leased is not None:
            self.log.release(self._leased)
        self._leased = partition

    @property
    def partition(self) -> int | None:
        """Where the replies to new questions go; None until that is known."""
        return self._leased

    @property
    def ready(self) -> bool:
        """That partition is being read, and was read to its end once."""
        tail = None if self._leased is None else self.log.tail(self._leased)
        return tail is not None and tail.current and self.log.alive

    @property
    def end(self) -> int:
        """The offset in that partition before which nothing stands that is still to come; 0 until it is `ready`."""
        tail = None if self._leased is None else self.log.tail(self._leased)
        return 0 if tail is None else tail.memory.next

    @contextmanager
    def follow(self, query: str, *, tenant: str, partition: int, offset: int) -> Iterator[ReplyFollower]:
        """Follow the replies to a question from this offset on, as long as the block runs."""
        with self.log.follow(partition, query.encode(), offset) as follower:
            yield ReplyFollower(follower, tenant, self._blobs)
