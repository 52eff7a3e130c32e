"""Nudges from the control topic: who writes an answer hears of a cancel without asking Postgres all the time."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from backbone.kafka import END, Admin, PartitionReader, Received
from backbone.settings import KafkaSettings
from schemas import codec
from schemas.events import ControlSent
from schemas.ids import QueryId

_PAUSE_S: Final = 1.0
_log = structlog.get_logger(__name__)


class ControlFeed:
    """`Cancellations` from Kafka; every process reads all of them, from the end on.

    Args:
        settings: how to reach Kafka.
        topic: name of the control topic.
        blobs: where values over 1 MiB are.
    """

    def __init__(self, *, settings: KafkaSettings, topic: str, blobs: codec.Blobs) -> None:
        self._settings = settings
        self._topic = topic
        self._blobs = blobs
        self._watched: dict[str, set[asyncio.Event]] = {}
        self._listening: dict[str, asyncio.Event] = {}

    def woken(self, kind: str) -> asyncio.Event:
        """Return the event that is set at each nudge of a kind; whoever waits for it clears it."""
        return self._listening.setdefault(kind, asyncio.Event())

    @contextmanager
    def watching(self, query: QueryId) -> Iterator[asyncio.Event]:
        """See `Cancellations.watching`."""
        nudged = asyncio.Event()
        self._watched.setdefault(query, set()).add(nudged)
        try:
            yield nudged
        finally:
            self._watched[query].discard(nudged)
            if not self._watched[query]:
                del self._watched[query]

    async def run(self) -> None:
        """Follow the topic until cancelled. Where it cannot be read, say so and begin again; nudges are lost then."""
        while True:
            try:
                await self._follow()
            except Exception as error:
                _log.warning("control_topic_cannot_be_read", error=repr(error))
            await asyncio.sleep(_PAUSE_S)

    async def _follow(self) -> None:
        partitions = await Admin(self._settings).end_offsets(self._topic)
        async with PartitionReader(self._settings, self._topic, dict.fromkeys(partitions, END)) as reader:
            async for item in reader:
                if isinstance(item, Received):
                    await self._nudge(item)

    async def _nudge(self, item: Received) -> None:
        record = codec.Record(key=item.key, value=item.value, headers=codec.headers_of(item.headers))
        try:
            control = await codec.decode(record, ControlSent, blobs=self._blobs)
        except (codec.Undecodable, codec.BlobMissing) as error:
            _log.warning("control_record_left_out", offset=item.offset, error=type(error).__name__)
            return
        if control is None:
            return
        if control.kind in self._listening:
            self._listening[control.kind].set()
        if control.kind == "cancel" and control.query is not None:
            for nudged in self._watched.get(control.query, ()):
                nudged.set()
