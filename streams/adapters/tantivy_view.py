"""The lexical ranker as a local materialised view: it reads the chunks topic itself and answers from its own folder."""

import asyncio
import functools
import logging
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from schemas import codec
from schemas.events import DocumentChunked, Filters
from schemas.ids import DocumentKey, InvalidId, parse_document_key
from streams.adapters.tantivy_index import LAYOUT, Place, TantivyIndex
from streams.errors import Transient
from streams.operator.views import Chunks, Held
from streams.ports import Candidate, Clock

_log = logging.getLogger(__name__)
T = TypeVar("T")

PLACE_MAX_AGE: Final = timedelta(days=7)
"""An older place may lie before deletes that compaction has taken out of the log since."""
_PLACE_REFRESH: Final = timedelta(hours=1)
_REACHED_POLL_S: Final = 0.05
ANEW: Final = ".new"
"""What the folder of a view that is being rebuilt ends with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedBatch:
    """What one read gave. `next_offsets` maps every partition to the offset after all that was read or found missing.

    `records` hold (partition, record) in log order per partition; empty when nothing came within the feed's poll time.
    """

    records: Sequence[tuple[int, codec.Record]]
    next_offsets: Mapping[int, int]


class Feed(Protocol):
    """All partitions of one topic, read without a consumer group."""

    async def topic_id(self) -> str:
        """Return Kafka's id of the topic, which a re-created topic does not share."""
        ...

    async def bounds(self) -> Mapping[int, tuple[int, int]]:
        """Return (first offset, end offset) of every partition."""
        ...

    def read(self, start: Mapping[int, int]) -> AsyncIterator[FeedBatch]:
        """Yield batches from these offsets on, without end; one every 200 ms or sooner, empty where nothing came."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """What one record asks of the index: `document` None removes the key."""

    key: DocumentKey
    version: int
    document: DocumentChunked | None


class TantivyView:
    """Searches what `run` has read so far; one instance owns its folder.

    Args:
        folder: of this process alone.
        feed: the chunks topic of the generation's chunker.
        blobs: where values over 1 MiB are.
        clock: for the age of the place in the log.
        commit_every_ms: shortest time between two commits; a record after a pause is searchable at once.
    """

    def __init__(self, *, folder: Path, feed: Feed, blobs: codec.Blobs, clock: Clock, commit_every_ms: int = 100):
        self._folder = folder
        self._feed = feed
        self._blobs = blobs
        self._clock = clock
        self._commit_every_ms = commit_every_ms
        self._index: TantivyIndex | None = None
        self._started = asyncio.Event()
        self._failure: BaseException | None = None
        self._ended = asyncio.Event()
        # tantivy has one writer; searches have threads of their own, so that a commit does not hold them up
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="lexical-write")
        self._searching = ThreadPoolExecutor(2, thread_name_prefix="lexical-search")
        self._caught_up = False
        self._searchable: Mapping[int, int] = {}
        self._rebuilding = asyncio.Lock()
        self._anew: Path | None = None

    async def run(self) -> None:
        """Follow the topic until cancelled; run it once, as a task.

        Raises:
            Fatal: another process owns the folder, or the feed cannot go on.
            StreamError: as the feed raises it.
        """
        try:
            await self._follow()
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._caught_up = False
            self._started.set()
            self._ended.set()
            await self._close()

    async def ended(self) -> None:
        """Wait until `run` ends, and raise what it raised."""
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    async def catch_up(self) -> None:
        """Wait until all that stood in the topic when `run` began can be found.

        Raises:
            Transient: `run` ended.
        """
        await self._started.wait()
        if self._failure is not None:
            raise Transient(f"the lexical view stopped: {self._failure!r}") from self._failure

    async def reach_end(self) -> None:
        """Wait until all that stands in the topic now can be found.

        Raises:
            Transient: it has not caught up since it began, or has stopped.
            StreamError: as the feed raises it.
        """
        bounds = await self._feed.bounds()
        while not self._reaches(self._searchable, bounds):
            self._following()
            await asyncio.sleep(_REACHED_POLL_S)

    async def rebuild(self) -> None:
        """Read the topic anew into a folder beside that of this view, then take that; it can be searched meanwhile.

        Raises:
            Transient: it has not caught up since it began, or has stopped; or what is built beside it has.
        """
        self._following()
        async with self._rebuilding:
            folder = self._folder.with_name(f"{self._folder.name}{ANEW}")
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            beside = TantivyView(folder=folder, feed=self._feed, blobs=self._blobs, clock=self._clock)
            reading = asyncio.create_task(beside.run())
            try:
                await beside.catch_up()
            finally:
                reading.cancel()
                await asyncio.wait([reading])
            self._anew, self._caught_up = folder, False
            while not self._caught_up:
                if self._ended.is_set():
                    raise Transient("the lexical view has stopped")
                await asyncio.sleep(_REACHED_POLL_S)

    async def held(self, keys: Collection[DocumentKey]) -> Mapping[DocumentKey, Held]:
        """Return what can be found of these documents, without those that were never seen.

        Raises:
            Transient: it has not caught up, has stopped, or its files are damaged.
        """
        index = self._following()

        def look() -> dict[DocumentKey, Held]:
            found = {key: index.held(key) for key in keys}
            return {
                key: Held(version=each[0], chunks=Chunks.of(each[1])) for key, each in found.items() if each is not None
            }

        return await self._search(look)

    async def matching(self, tenant: str, text: str, filters: Filters, limit: int) -> list[Candidate]:
        """Return at most `limit` chunks that the reader may see, best BM25 first. Any text is a valid query.

        Raises:
            Transient: the view has not caught up, has stopped, or its files are damaged.
        """
        return await self._search(functools.partial(self._following().search, tenant, text, filters, limit))

    def _following(self) -> TantivyIndex:
        index = self._index
        if index is None or not self._caught_up:
            raise Transient("the lexical view has not caught up with its topic")
        return index

    async def _search(self, look: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._searching, look)
        except (ValueError, OSError, AttributeError) as error:
            raise Transient(f"the lexical view cannot be searched: {error}") from error

    @staticmethod
    def _reaches(places: Mapping[int, int], bounds: Mapping[int, tuple[int, int]]) -> bool:
        return all(places.get(partition, 0) >= end for partition, (_, end) in bounds.items())

    async def _follow(self) -> None:
        while True:
            await self._follow_until_anew()
            folder, self._anew = self._anew, None
            index, self._index = self._index, None
            if folder is None or index is None:
                return
            await self._write(index.close)
            await self._write(_take_place, folder, self._folder)
            _log.info("lexical view was rebuilt")

    async def _follow_until_anew(self) -> None:
        """Follow the topic until the view has been built anew beside this one."""
        self._index = index = await self._write(TantivyIndex, self._folder)
        topic_id = await self._feed.topic_id()
        bounds = await self._feed.bounds()
        place = await self._write(index.place)
        doubt = _doubt(place, topic_id, bounds, self._clock.now_ms())
        if place is None or doubt is not None:
            _log.info("lexical view is rebuilt: %s", doubt)
            await self._write(index.wipe)
            place = Place(topic_id=topic_id, next_offsets={}, committed_ms=0)
        start = {partition: place.next_offsets.get(partition, first) for partition, (first, _) in bounds.items()}
        dirty, paced_s = False, 0.0
        async for batch in self._feed.read(start):
            changes = [change for _, record in batch.records if (change := await self._change(record)) is not None]
            if changes:
                await self._write(_apply, index, changes)
                dirty = True
            first_time = self._reaches(batch.next_offsets, bounds) and not self._caught_up
            now_ms, now_s = self._clock.now_ms(), asyncio.get_running_loop().time()
            stale = now_ms - place.committed_ms >= _PLACE_REFRESH / timedelta(milliseconds=1)
            if first_time or stale or (dirty and now_s - paced_s >= self._pace_s()):
                place = Place(topic_id=topic_id, next_offsets=dict(batch.next_offsets), committed_ms=now_ms)
                await self._write(index.commit, place)
                dirty, paced_s = False, now_s
            if not dirty:
                self._searchable = dict(batch.next_offsets)
            if self._anew is not None:
                return
            if first_time:
                self._caught_up = True
                self._started.set()

    def _pace_s(self) -> float:
        # nobody searches before the view has caught up: fewer, larger commits make that sooner
        return self._commit_every_ms / 1000 if self._caught_up else 2.0

    async def _change(self, record: codec.Record) -> _Change | None:
        """Read one record; what cannot be read is left out, because one bad record must not stop the view."""
        try:
            key = parse_document_key(record.key)
            document = await codec.decode(record, DocumentChunked, blobs=self._blobs)
        except (InvalidId, codec.Undecodable, codec.BlobMissing) as error:
            _log.warning("lexical view leaves out a record: %s", type(error).__name__)
            return None
        version = codec.version_of(record.headers)
        if version is None and document is not None:
            version = document.version
        if version is None:
            _log.warning("lexical view leaves out a record: no version")
            return None
        return _Change(key=key, version=version, document=document)

    async def _write(self, work: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writing, work, *args)

    async def _close(self) -> None:
        index, self._index = self._index, None
        self._searching.shutdown(wait=True)
        if index is not None:
            await asyncio.shield(self._write(index.close))
        self._writing.shutdown(wait=False)


def _take_place(new: Path, old: Path) -> None:
    shutil.rmtree(old)
    new.rename(old)


def _apply(index: TantivyIndex, changes: Sequence[_Change]) -> None:
    for change in changes:
        if change.document is None:
            index.remove(change.key, change.version)
        else:
            index.replace(change.key, change.version, change.document)


def _doubt(place: Place | None, topic_id: str, bounds: Mapping[int, tuple[int, int]], now_ms: int) -> str | None:
    """Say why reading may not go on from `place`; None when it may."""
    if place is None:
        return "no readable place"
    if place.layout != LAYOUT:
        return "other layout"
    if place.topic_id != topic_id:
        return "the topic was made again"
    if now_ms - place.committed_ms > PLACE_MAX_AGE / timedelta(milliseconds=1):
        return "the place is too old"
    for partition, offset in place.next_offsets.items():
        first, end = bounds.get(partition, (0, -1))
        if not first <= offset <= end:
            return "the log no longer holds the place"
    return None
