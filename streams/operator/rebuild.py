"""Rebuilding: what a sink has lost is written again from the embeddings of its generation, without a model."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import structlog

from schemas.events import DocumentEmbedded
from schemas.ids import DocumentKey
from streams.errors import Fatal, Transient, Unprocessable

TELL_EVERY_S: Final = 1.0
SinkName = Literal["pgvector", "tantivy", "opensearch"]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuild:
    """One that was asked for.

    Attributes:
        id: its name.
        generation: whose.
        sink: what is rebuilt.
        next_offsets: of each partition where it goes on, because an earlier worker died; empty: from the beginning.
        progress: what was told of it before.
    """

    id: str
    generation: str
    sink: SinkName
    next_offsets: Mapping[int, int]
    progress: Mapping[str, Any]


class RebuildStore(Protocol):
    """Rebuilds that were asked for. Methods raise `Transient` when it is away."""

    def next(self) -> AbstractAsyncContextManager[Rebuild | None]:
        """Take the one that has waited longest, or whose worker died; a lease is renewed while the block runs.

        A block that raises gives it back: whoever asks next may take it.
        """
        ...

    async def progress(self, id: str, told: Mapping[str, Any], next_offsets: Mapping[int, int]) -> None:
        """Say how far it is, and where it goes on."""
        ...

    async def finish(self, id: str, told: Mapping[str, Any], *, why: str | None = None) -> None:
        """It is done; `why`: it failed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A record of the embeddings topic. `event` None deletes; `why` says why it cannot be read."""

    partition: int
    offset: int
    key: DocumentKey
    version: int
    event: DocumentEmbedded | None
    why: str | None = None


class Embeddings(Protocol):
    """The topic of a generation's embeddings. Methods raise `Transient` when Kafka is away."""

    async def ends(self) -> Mapping[int, int]:
        """Return the end offset of each partition, as it is now."""
        ...

    def read(self, start: Mapping[int, int], ends: Mapping[int, int]) -> AsyncIterator[Embedded]:
        """Yield the records from these offsets (a partition left out: from its first) to these ends."""
        ...


class Rebuilt(Protocol):
    """A sink that is rebuilt. Methods raise `Transient` when it is away."""

    async def prepare(self) -> None:
        """Make what is gone, and take out what belongs to no live document. Idempotent."""
        ...

    async def put(self, event: DocumentEmbedded) -> bool:
        """Write a version whole; False: a newer one is held, or it was deleted since."""
        ...

    async def remove(self, key: DocumentKey, version: int) -> bool:
        """Let go of a document; False: a newer version is held."""
        ...

    async def finish(self) -> int:
        """Return how many live documents are not whole all the same."""
        ...


class Views(Protocol):
    """The lexical views of a generation, which rebuild themselves when they are told to."""

    async def alive(self) -> list[str]:
        """Return the workers whose view was seen lately, in the order of their names."""
        ...

    async def rebuild(self, worker: str, id: str) -> bool:
        """Have a worker's view rebuilt, and wait until it is; False: the worker went away before."""
        ...


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A generation as it is rebuilt.

    Attributes:
        embeddings: its topic.
        sinks: by name, those that are written from it; a call raises `Fatal` where it cannot be reached from here.
        views: its lexical views.
    """

    embeddings: Embeddings
    sinks: Mapping[str, Callable[[], Rebuilt]]
    views: Views


class Find(Protocol):
    """Finds what is rebuilt."""

    async def __call__(self, generation: str) -> Subject | None:
        """Return a generation; None: it holds no documents."""
        ...


@dataclass(frozen=True, kw_only=True)
class RebuildSinks:
    """Carries out rebuilds.

    Attributes:
        rebuilds: what was asked for.
        find: gives the generation.
        tell_every_s: how often it says how far it is, which is also what a worker that dies leaves to be done again.
    """

    rebuilds: RebuildStore
    find: Find
    tell_every_s: float = TELL_EVERY_S

    async def round(self) -> None:
        """Carry out all that wait.

        Raises:
            Transient: Kafka, Postgres or the sink is away; another round goes on where this one was.
        """
        while True:
            async with self.rebuilds.next() as asked:
                if asked is None:
                    return
                try:
                    await self._carry_out(asked)
                except Transient:
                    raise
                except (Fatal, Unprocessable) as error:
                    await self.rebuilds.finish(asked.id, {}, why=str(error))
                except Exception as error:
                    _log.exception("rebuild_failed", rebuild=asked.id)
                    why = f"{type(error).__name__}; see the log of the operator stage"
                    await self.rebuilds.finish(asked.id, {}, why=why)

    async def _carry_out(self, asked: Rebuild) -> None:
        subject = await self.find(asked.generation)
        if subject is None:
            raise Fatal(f"generation {asked.generation!r} holds no documents (any more)")
        if asked.sink == "tantivy":
            told = await self._views(asked, subject.views)
        else:
            told = await self._sink(asked, subject)
        await self.rebuilds.finish(asked.id, told)
        _log.info("rebuilt", rebuild=asked.id, generation=asked.generation, sink=asked.sink, **told)

    async def _views(self, asked: Rebuild, views: Views) -> dict[str, Any]:
        """Rebuild one view after the other, so that the other workers answer as fast as ever."""
        workers = await views.alive()
        done: list[str] = []
        gone: list[str] = []
        for worker in workers:
            (done if await views.rebuild(worker, asked.id) else gone).append(worker)
            await self.rebuilds.progress(asked.id, {"n_views": len(workers), "n_done": len(done)}, {})
        return {"n_views": len(workers), "n_done": len(done), "gone": gone}

    async def _sink(self, asked: Rebuild, subject: Subject) -> dict[str, Any]:
        sink = subject.sinks[asked.sink]()
        await sink.prepare()
        ends = await subject.embeddings.ends()
        next_offsets = dict(asked.next_offsets)
        counted = {"n_records": 0, "n_documents": 0, "n_chunks": 0, "n_unreadable": 0} | {
            name: n for name, n in asked.progress.items() if name.startswith("n_")
        }
        counted["n_offsets"] = sum(ends.values())
        told_at = time.monotonic()
        async for record in subject.embeddings.read(next_offsets, ends):
            counted["n_records"] += 1
            if record.why is not None:
                counted["n_unreadable"] += 1
                _log.warning("embedding_unreadable", key=str(record.key), version=record.version, why=record.why)
            elif record.event is None:
                await sink.remove(record.key, record.version)
            elif await sink.put(record.event):
                counted["n_documents"] += 1
                counted["n_chunks"] += len(record.event.chunks)
            next_offsets[record.partition] = record.offset + 1
            if time.monotonic() - told_at >= self.tell_every_s:
                told_at = time.monotonic()
                counted["n_passed"] = sum(next_offsets.values())
                await self.rebuilds.progress(asked.id, counted, next_offsets)
        counted["n_passed"] = counted["n_offsets"]
        return counted | {"n_incomplete": await sink.finish()}
