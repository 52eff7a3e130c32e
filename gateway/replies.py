"""The answers topic as this gateway reads it: one shared reader, one bounded queue per question that is waited for."""

import asyncio
import logging
import random
import weakref
from collections import deque
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaException

from backbone.kafka import END, Admin, AtEnd, MissingTopic, Overtaken, PartitionReader, Received, Start
from backbone.settings import KafkaSettings
from backbone.telemetry import REPLIES_DROPPED
from schemas.codec import BlobMissing, Blobs, Record, Undecodable, decode, headers_of
from schemas.events import Reply
from schemas.topics import ANSWERS

QUEUE_MAX: Final = 1_000
"""Replies that wait for one reader; more cut it off. At 20 to 50 ms of tokens a reply, that is most of a minute."""

_RECONNECT_S: Final = 1.0
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Heard:
    """A reply, and its place in the log as `partition:offset`."""

    reply: Reply
    place: str


class TooSlow(Exception):
    """The reader of a stream took so long that its queue was full."""


class Subscription:
    """The replies to one question, in the order of the log."""

    __slots__ = ("__weakref__", "_arrived", "_cut", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[Heard] = deque()
        self._arrived = asyncio.Event()
        self._cut = False

    def put(self, heard: Heard) -> None:
        """Add a reply; the one that finds the queue full cuts the reader off."""
        if len(self._waiting) >= QUEUE_MAX:
            self._cut = True
            self._waiting.clear()
        if not self._cut:
            self._waiting.append(heard)
        self._arrived.set()

    async def next(self) -> Heard:
        """Wait for the next reply.

        Raises:
            TooSlow: the reader was cut off.
        """
        while not self._waiting:
            if self._cut:
                raise TooSlow
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()


class Replies:
    """Hands each reply to the question that waits for it; all others are dropped.

    Attributes:
        partition: of the answers topic, where replies to questions of this gateway go; None until it is known.
        ready: replies are being read.
    """

    def __init__(self, blobs: Blobs) -> None:
        """Args:
        blobs: holds replies over 1 MiB.
        """
        self._blobs = blobs
        # Weakly, so that a stream that goes away in whatever manner takes its subscription along.
        self._waiting: weakref.WeakValueDictionary[bytes, Subscription] = weakref.WeakValueDictionary()
        self.partition: int | None = None
        self.ready = False

    def subscribe(self, query: str) -> Subscription:
        """Begin to collect the replies to a question; it ends with the object that is returned."""
        subscription = Subscription()
        self._waiting[query.encode()] = subscription
        return subscription

    async def hear(self, record: Received) -> None:
        """Hand over one record of the answers topic."""
        subscription = self._waiting.get(record.key or b"")
        if subscription is None:
            REPLIES_DROPPED.labels("nobody_waits").inc()
            return
        wire = Record(key=record.key, value=record.value, headers=headers_of(record.headers))
        try:
            reply = await decode(wire, Reply, blobs=self._blobs)
        except (Undecodable, BlobMissing, OSError) as error:
            REPLIES_DROPPED.labels("unreadable").inc()
            _logger.error("reply at %s:%s cannot be read: %s", record.partition, record.offset, error)
            return
        if reply is not None:
            subscription.put(Heard(reply, f"{record.partition}:{record.offset}"))


async def read_replies(settings: KafkaSettings, replies: Replies, *, partition: int) -> None:
    """Read replies until cancelled; where Kafka is away, wait and go on from the same place.

    Args:
        settings: how to reach Kafka.
        replies: hears them.
        partition: to read; -1 chooses one at random.
    """
    place: int | None = None
    while True:
        try:
            if replies.partition is None:
                there = await Admin(settings).end_offsets(ANSWERS.name)
                chosen = random.choice(sorted(there)) if partition < 0 else partition
            else:
                chosen = replies.partition
            start: Start = END if place is None else place
            async with PartitionReader(settings, ANSWERS.name, {chosen: start}) as reader:
                replies.partition, replies.ready = chosen, True
                _logger.info("reading replies of partition %d", chosen)
                async for item in reader:
                    match item:
                        case Received():
                            await replies.hear(item)
                            place = item.offset + 1
                        case AtEnd(offset=offset):
                            place = offset
                        case Overtaken(resumed=resumed):
                            _logger.warning("replies before offset %d were deleted before they were read", resumed)
        except (KafkaException, MissingTopic) as error:
            _logger.warning("replies cannot be read, trying again: %s", error)
        finally:
            replies.ready = False
        await asyncio.sleep(_RECONNECT_S)
