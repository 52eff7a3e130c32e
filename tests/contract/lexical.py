"""A lexical ranker and the log that it reads, for tests that must not know which one it is."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from schemas import codec
from schemas.events import Chunk, DocumentChunked, DocumentEmbedded, Filters
from schemas.ids import DocumentId, DocumentKey, Tenant
from streams.adapters.opensearch_index import OpensearchIndex
from streams.adapters.opensearch_rankers import OpensearchLexical
from streams.adapters.tantivy_view import TantivyView
from streams.ports import LexicalRanker
from tests.contract.factories import packed
from tests.doubles.chunk_feed import MemoryFeed
from tests.doubles.clock import FrozenClock
from tests.doubles.lexical_ranker import MemoryLexicalRanker

NOW_MS = 1_790_000_000_000
SETTLE_S = 10
SLOTS = 16
NO_FILTERS = Filters()


def key_of(document: str = "doc", tenant: str = "acme") -> DocumentKey:
    return DocumentKey(Tenant(tenant), DocumentId(document))


def chunked(key: DocumentKey, version: int, chunks: dict[str, str], **attributes: Any) -> DocumentChunked:
    """A document of chunks, given as id -> text."""
    return DocumentChunked(
        tenant=key.tenant,
        document=key.document,
        version=version,
        chunker="structure",
        content_sha256="0" * 64,
        chunks=[
            Chunk(id=name, ordinal=ordinal, text=text, start=0, end=len(text), n_tokens=1)
            for ordinal, (name, text) in enumerate(chunks.items())
        ],
        submitted_ms=NOW_MS,
        **attributes,
    )


class NoBlobs:
    """`Blobs` without any: the records of these tests are small."""

    async def put(self, data: bytes) -> str:
        raise AssertionError("no record of these tests is large")

    async def get(self, sha256: str) -> bytes:
        raise codec.BlobMissing(sha256)


class Lexical(Protocol):
    """A ranker with its log. `write` None deletes; after `settle`, all that was written can be found."""

    @property
    def ranker(self) -> LexicalRanker: ...

    async def write(self, key: DocumentKey, version: int, document: DocumentChunked | None) -> None: ...

    async def settle(self) -> None: ...


class Stored(Lexical, Protocol):
    """One that keeps what it holds; `restart` ends its process or that of its store, and starts it again."""

    async def restart(self) -> None: ...


@dataclass
class MemoryLexical:
    """The double."""

    ranker: MemoryLexicalRanker

    async def write(self, key: DocumentKey, version: int, document: DocumentChunked | None) -> None:
        self.ranker.write(key, version, document)

    async def settle(self) -> None:
        """Nothing is under way."""


class TantivyLexical:
    """A tantivy view that follows a log in memory."""

    def __init__(self, folder: Path, feed: MemoryFeed, clock: FrozenClock) -> None:
        self.folder = folder
        self.feed = feed
        self.clock = clock
        self.n_settled = 0
        self.start()

    def start(self) -> None:
        """Follow the log from where the folder stands."""
        self.ranker = TantivyView(
            folder=self.folder, feed=self.feed, blobs=NoBlobs(), clock=self.clock, commit_every_ms=10
        )
        self.running = asyncio.create_task(self.ranker.run())

    async def restart(self) -> None:
        await self.stop()
        self.start()
        await self.ranker.catch_up()

    async def write(self, key: DocumentKey, version: int, document: DocumentChunked | None) -> None:
        record = await codec.encode(document, key=key.encode(), source="/test", blobs=NoBlobs(), version=version)
        self.feed.append(record)

    async def settle(self) -> None:
        # a document written last is found last
        self.n_settled += 1
        mark = f"mark{self.n_settled}"
        await self.write(key_of("mark", "mark"), self.n_settled, chunked(key_of("mark", "mark"), 1, {mark: mark}))
        await self.ranker.catch_up()
        await until(lambda: self._found(mark))

    async def _found(self, mark: str) -> bool:
        return bool(await self.ranker.matching("mark", mark, Filters(), 1))

    async def stop(self) -> None:
        """End it as a worker that is stopped."""
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


class SinkLexical:
    """A generation in OpenSearch; each document is written when the log is settled, several at a time."""

    def __init__(self, index: OpensearchIndex, restart: Callable[[], None]) -> None:
        self.index = index
        self._restart = restart
        self.ranker = OpensearchLexical(client=index.client, index=index.name)
        self.waiting: dict[DocumentKey, list[tuple[int, DocumentChunked | None]]] = {}

    async def write(self, key: DocumentKey, version: int, document: DocumentChunked | None) -> None:
        self.waiting.setdefault(key, []).append((version, document))

    async def settle(self) -> None:
        slots = asyncio.Semaphore(SLOTS)

        async def lane(key: DocumentKey) -> None:
            async with slots:
                for version, document in self.waiting[key]:
                    if document is None:
                        await self.index.remove(key, version)
                    else:
                        await self.index.replace(embedded(document, self.index))

        await asyncio.gather(*map(lane, self.waiting))
        self.waiting.clear()
        await self.index.refresh()

    async def restart(self) -> None:
        await asyncio.to_thread(self._restart)


def embedded(document: DocumentChunked, index: OpensearchIndex) -> DocumentEmbedded:
    """The document with a vector for each chunk, which says nothing."""
    return DocumentEmbedded(
        tenant=document.tenant,
        document=document.document,
        version=document.version,
        generation=index.generation,
        chunker=document.chunker,
        content_sha256=document.content_sha256,
        dim=index.dim,
        chunks=document.chunks,
        vectors=packed([[1.0] * index.dim] * len(document.chunks)),
        sentence_vectors="",
        collection=document.collection,
        title=document.title,
        metadata=document.metadata,
        acl=document.acl,
        submitted_ms=document.submitted_ms,
    )


async def until(done: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a state that comes by itself."""
    deadline = time.monotonic() + SETTLE_S
    while not await done():
        assert time.monotonic() < deadline, "not settled in time"
        await asyncio.sleep(0.005)


async def found(lexical: Lexical, text: str, filters: Filters = NO_FILTERS, **where: Any) -> Sequence[str]:
    """Ids of the chunks found, best first."""
    tenant, limit = where.get("tenant", "acme"), where.get("limit", 10)
    return [candidate.chunk for candidate in await lexical.ranker.matching(tenant, text, filters, limit)]
