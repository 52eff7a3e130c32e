"""One index generation in OpenSearch: an entry per chunk, and one per document that is the fence.

OpenSearch has no transactions; it only refuses an entry whose version is lower than that of the entry it would
replace. So a document has a *head*, which names its version and all chunks that may be held of it. A writer first puts
the head with its own and the former chunks, which a newer head refuses; then its chunks; then it removes the former
ones, and puts the head with its own alone. Whoever is refused at either step takes back what it wrote. A writer that
dies in between has not acknowledged its record: who gets it next does one or the other. The head of a deleted document
stays as a marker, so that nothing older comes back.
"""

import hashlib
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from itertools import groupby
from typing import Any, Final

import msgspec
import numpy as np
from opensearchpy import AsyncOpenSearch
from opensearchpy.exceptions import RequestError

from schemas.events import Chunk, DocumentEmbedded
from schemas.ids import ChunkId, DocumentId, DocumentKey, Tenant, parse_document_key
from streams.adapters import float16
from streams.adapters.opensearch import asking, refused
from streams.adapters.opensearch_filters import KEYWORDS, terms
from streams.errors import Unprocessable
from streams.ports import Clock, Vectors

LAYOUT: Final = 2
"""Raise it with every change of mapping or analysis: an index of another layout is made beside the old one."""

MARKERS_KEPT: Final = timedelta(days=30)
"""As long as Kafka keeps a tombstone: nothing older than the delete can come after that."""

_BULK_MAX_ENTRIES: Final = 200
_BULK_MAX_BYTES: Final = 4 * 1024 * 1024
_PAGE: Final = 5_000
_PIT_KEPT: Final = "1m"
_CONFLICT: Final = 409
_NOT_FOUND: Final = 404
_ANALYSIS: Final = {
    "tokenizer": {"words": {"type": "char_group", "tokenize_on_chars": ["whitespace", "punctuation", "symbol"]}},
    "filter": {
        "not_long": {"type": "length", "max": 64},
        "english_stem": {"type": "stemmer", "language": "porter2"},
    },
    "analyzer": {
        "english_text": {
            "type": "custom",
            "tokenizer": "words",
            "filter": ["not_long", "lowercase", "asciifolding", "english_stem"],
        },
        "english_question": {
            "type": "custom",
            "tokenizer": "words",
            # a word that is said twice is not wanted twice
            "filter": ["not_long", "lowercase", "asciifolding", "english_stem", "unique"],
        },
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How an index is spread and how soon it shows what is written.

    Attributes:
        shards: parts that a large index is spread over; fixed when it is made.
        replicas: further copies of each.
        refresh_ms: what is written can be found so much later at most.
    """

    shards: int = 1
    replicas: int = 0
    refresh_ms: int = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Indexed:
    """What the index holds of one document. `version` None: it has chunks and no head."""

    key: DocumentKey
    version: int | None
    deleted: bool
    chunks: frozenset[ChunkId]


@dataclass(frozen=True, slots=True)
class _Head:
    version: int
    chunks: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class OpensearchIndex:
    """`Sink` of one generation, and the index itself. Methods raise as `asking` does.

    Attributes:
        client: to OpenSearch.
        generation: its name.
        dim: length of its vectors.
        clock: stamps delete markers.
        layout: of an index to be made.
    """

    client: AsyncOpenSearch
    generation: str
    dim: int
    clock: Clock
    layout: Layout = Layout()

    @cached_property
    def name(self) -> str:
        """Name under which the index is read and written: an alias, so that no write makes an index by itself."""
        return f"headrace-{self.generation}"

    @cached_property
    def _index(self) -> str:
        return f"{self.name}-{LAYOUT}"

    # --- the index itself -------------------------------------------------------------------------

    async def ensure(self) -> bool:
        """Make the index unless it is there; return whether it was made."""
        with asking():
            try:
                await self.client.indices.create(index=self._index, body=self._definition())
            except RequestError as error:
                if error.error != "resource_already_exists_exception":
                    raise
                return False
        return True

    async def drop(self) -> None:
        """Remove the index and all that it holds. Idempotent."""
        with asking():
            await self.client.indices.delete(index=self._index, params={"ignore_unavailable": "true"})

    async def count(self) -> int:
        """Return how many chunks can be found."""
        with asking():
            found = await self.client.count(index=self.name, body={"query": {"exists": {"field": "chunk"}}})
        return int(found["count"])

    async def refresh(self) -> None:
        """Let all that was written be found at once."""
        with asking():
            await self.client.indices.refresh(index=self.name)

    async def purge(self, *, kept: timedelta = MARKERS_KEPT) -> int:
        """Remove the markers of documents that were deleted so long ago; return how many."""
        before_ms = self.clock.now_ms() - kept // timedelta(milliseconds=1)
        with asking():
            done = await self.client.delete_by_query(
                index=self.name,
                body={"query": {"range": {"deleted_ms": {"lt": before_ms}}}},
                params={"conflicts": "proceed", "refresh": "true"},
            )
        return int(done["deleted"])

    async def documents(
        self, keys: Collection[DocumentKey] | None = None, *, page_entries: int = _PAGE
    ) -> AsyncIterator[Indexed]:
        """Yield what can be found of each document, deleted ones too, in the order of their keys, as of one moment.

        Args:
            keys: only of these, 65,536 at most; None: of all.
            page_entries: read with one request.
        """
        query = {"match_all": {}} if keys is None else {"terms": {"key": [str(key) for key in keys]}}
        entries: list[Mapping[str, Any]] = []
        async for page in self._pages(query, page_entries):
            # the last document of a page may go on in the next one
            entries += page
            documents = [list(group) for _, group in groupby(entries, lambda entry: entry["key"])]
            for each in documents[:-1]:
                yield _indexed(each)
            entries = documents[-1]
        if entries:
            yield _indexed(entries)

    async def _pages(self, query: Mapping[str, Any], size: int) -> AsyncIterator[list[Mapping[str, Any]]]:
        with asking():
            opened = await self.client.create_pit(index=self.name, params={"keep_alive": _PIT_KEPT})
            after: Sequence[Any] | None = None
            try:
                while True:
                    body = {
                        "size": size,
                        "query": query,
                        "pit": {"id": opened["pit_id"], "keep_alive": _PIT_KEPT},
                        "sort": [{"key": "asc"}, {"chunk": {"order": "asc", "missing": "_first"}}],
                        "_source": ["key", "chunk", "version", "deleted"],
                        "track_total_hits": False,
                    }
                    found = await self.client.search(body=body | ({"search_after": after} if after else {}))
                    hits = found["hits"]["hits"]
                    if not hits:
                        return
                    after = hits[-1]["sort"]
                    yield [hit["_source"] for hit in hits]
            finally:
                await self.client.delete_pit(body={"pit_id": [opened["pit_id"]]})

    # --- documents --------------------------------------------------------------------------------

    async def replace(self, document: DocumentEmbedded) -> bool:
        """See `Sink.replace`.

        Raises:
            Unprocessable: another generation's record, or vectors that do not fit the chunks, or OpenSearch refuses it.
        """
        if (document.generation, document.dim) != (self.generation, self.dim):
            raise Unprocessable(
                "wrong_generation",
                f"vectors of generation {document.generation!r}, dim {document.dim}; "
                f"expected {self.generation!r}, dim {self.dim}",
            )
        rows = float16.decoded(document.vectors, rows=len(document.chunks), dim=self.dim, what="vectors")
        key, version = DocumentKey(Tenant(document.tenant), DocumentId(document.document)), document.version
        ours = {chunk.id for chunk in document.chunks}
        with asking():
            head = await self._head(key)
            former = head.chunks - ours if head else frozenset()
            if not await self._put_head(key, version, ours | former):
                await self._bulk(_deletes(key, ours, version))
                return False
            await self._bulk(_puts(key, document, float16.as_float32(rows)))
            return await self._finish(key, version, ours, former)

    async def remove(self, key: DocumentKey, version: int) -> bool:
        """See `Sink.remove`; a marker stays."""
        with asking():
            head = await self._head(key)
            former = head.chunks if head else frozenset()
            if not await self._put_head(key, version, former, deleted_ms=self.clock.now_ms()):
                return False
            if former:
                return await self._finish(key, version, (), former, deleted_ms=self.clock.now_ms())
            return True

    async def _finish(
        self,
        key: DocumentKey,
        version: int,
        ours: Collection[str],
        former: Collection[str],
        *,
        deleted_ms: int | None = None,
    ) -> bool:
        await self._bulk(_deletes(key, former, version))
        if await self._put_head(key, version, ours, deleted_ms=deleted_ms):
            return True
        await self._bulk(_deletes(key, ours, version))
        return False

    async def _head(self, key: DocumentKey) -> _Head | None:
        # every document is a new one once, which is nothing to log
        found = await self.client.get(index=self.name, id=_name(key), params={"ignore": _NOT_FOUND})
        if "error" in found:
            raise refused(_NOT_FOUND, found["error"])
        if not found["found"]:
            return None
        source = found["_source"]
        return _Head(version=source["version"], chunks=frozenset(source["chunks"]))

    async def _put_head(
        self, key: DocumentKey, version: int, chunks: Collection[str], *, deleted_ms: int | None = None
    ) -> bool:
        """Write the head; False when a newer one is held."""
        body: dict[str, Any] = {
            "key": str(key),
            "version": version,
            "deleted": deleted_ms is not None,
            "chunks": sorted(chunks),
        }
        if deleted_ms is not None:
            body["deleted_ms"] = deleted_ms
        params = {"version": version, "version_type": "external_gte", "require_alias": "true", "ignore": _CONFLICT}
        answer = await self.client.index(
            index=self.name, id=_name(key), body=msgspec.json.encode(body).decode(), params=params
        )
        return "error" not in answer

    async def _bulk(self, entries: Iterable[bytes]) -> None:
        """Write entries, and look at what became of each; one that is held in a newer version stays as it is.

        Raises:
            StreamError: as `refused` says of the first entry that was refused.
        """
        for body in _bodies(entries):
            answer = await self.client.bulk(
                body=body.decode(),
                index=self.name,
                params={"require_alias": "true", "filter_path": "errors,items.*.status,items.*.error"},
            )
            for item in answer["items"]:
                [(action, told)] = item.items()
                status = int(told["status"])
                fine = status < 300 or status == _CONFLICT or (action == "delete" and status == _NOT_FOUND)
                if not fine:
                    raise refused(status, told.get("error"))

    def _definition(self) -> Mapping[str, Any]:
        keyword = {"type": "keyword", "doc_values": False, "norms": False}
        return {
            "aliases": {self.name: {}},
            "settings": {
                "index": {
                    "knn": True,
                    "number_of_shards": self.layout.shards,
                    "number_of_replicas": self.layout.replicas,
                    "refresh_interval": f"{self.layout.refresh_ms}ms",
                    # a stale writer that comes so late is still refused a chunk that was removed
                    "gc_deletes": "1h",
                    "analysis": _ANALYSIS,
                }
            },
            "mappings": {
                "dynamic": "strict",
                # text and vectors are in the log and in Postgres
                "_source": {"excludes": ["text", "vector", "ordered", *KEYWORDS]},
                "properties": {
                    "key": {"type": "keyword"},
                    "chunk": {"type": "keyword"},
                    "version": {"type": "long", "index": False},
                    "deleted": {"type": "boolean"},
                    "deleted_ms": {"type": "date", "format": "epoch_millis"},
                    "chunks": {"type": "keyword", "index": False, "doc_values": False},
                    "text": {
                        "type": "text",
                        "analyzer": "english_text",
                        "search_analyzer": "english_question",
                        "index_options": "freqs",
                    },
                    "vector": {
                        "type": "knn_vector",
                        "dimension": self.dim,
                        "method": {
                            "name": "hnsw",
                            "engine": "lucene",
                            "space_type": "cosinesimil",
                            "parameters": {"m": 16, "ef_construction": 128},
                        },
                    },
                    **dict.fromkeys(KEYWORDS, keyword),
                    "ordered": {"type": "keyword"},
                },
            },
        }


def clean(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()


def _name(key: DocumentKey, chunk: str = "") -> str:
    """Name an entry: of the head, or of a chunk; no document names the chunks of another."""
    return f"{hashlib.blake2b(key.encode(), digest_size=16).hexdigest()}-{chunk}"


def _puts(key: DocumentKey, document: DocumentEmbedded, vectors: Vectors) -> Iterator[bytes]:
    shared = {"key": str(key), "version": document.version, **terms(document)}
    for chunk, vector in zip(document.chunks, vectors, strict=True):
        entry = shared | {"chunk": chunk.id, "text": _searched(document, chunk)}
        if np.any(vector):
            # to nothing is a vector of zeros near
            entry["vector"] = vector.tolist()
        yield _line("index", _name(key, chunk.id), document.version) + msgspec.json.encode(entry) + b"\n"


def _searched(document: DocumentEmbedded, chunk: Chunk) -> str:
    return clean("\n".join((document.title or "", *chunk.headings, chunk.text)))


def _deletes(key: DocumentKey, chunks: Iterable[str], version: int) -> Iterator[bytes]:
    for chunk in sorted(chunks):
        yield _line("delete", _name(key, chunk), version)


def _line(action: str, name: str, version: int) -> bytes:
    return msgspec.json.encode({action: {"_id": name, "version": version, "version_type": "external_gte"}}) + b"\n"


def _bodies(entries: Iterable[bytes]) -> Iterator[bytes]:
    """Join entries to requests of a bounded size."""
    held: list[bytes] = []
    n_bytes = 0
    for entry in entries:
        if held and (len(held) == _BULK_MAX_ENTRIES or n_bytes + len(entry) > _BULK_MAX_BYTES):
            yield b"".join(held)
            held, n_bytes = [], 0
        held.append(entry)
        n_bytes += len(entry)
    if held:
        yield b"".join(held)


def _indexed(entries: Sequence[Mapping[str, Any]]) -> Indexed:
    heads = [entry for entry in entries if "chunk" not in entry]
    return Indexed(
        key=parse_document_key(entries[0]["key"].encode()),
        version=heads[0]["version"] if heads else None,
        deleted=bool(heads and heads[0]["deleted"]),
        chunks=frozenset(ChunkId(entry["chunk"]) for entry in entries if "chunk" in entry),
    )
