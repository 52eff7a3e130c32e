"""Chunks in a tantivy index on disk: documents replaced whole, filters as exact terms, the reader's place in the log
inside the commit."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import filelock
import msgspec
import tantivy

from schemas.conditions import AllOf, Among, AnyOf, Compared, Condition, Exists, Not, parse, plain
from schemas.events import DocumentChunked, Filters
from schemas.ids import ChunkId, DocumentKey
from streams.adapters.metadata_terms import (
    Between,
    between,
    bounded,
    exact_term,
    exact_terms,
    exists_term,
    ordered_terms,
)
from streams.errors import Fatal
from streams.ports import Candidate

LAYOUT: Final = 2
"""Raise it with every change of schema or analysis: an index of another layout is rebuilt."""

_QUERY_TERMS_MAX = 256
_WRITER_HEAP_BYTES = 32 * 1024 * 1024
_PLACE_KEY = "\x00place"
_EVERYONE = "*"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """How far the index has read its topic. `next_offsets` maps a partition to the offset to read next."""

    topic_id: str
    next_offsets: dict[int, int]
    committed_ms: int
    layout: int = LAYOUT


class TantivyIndex:
    """One folder with one index, owned by one process. Blocking; writes come from one thread, searches from any."""

    def __init__(self, folder: Path) -> None:
        """Open the index in `folder`, or begin an empty one where there is none or it cannot be read.

        Raises:
            Fatal: another process owns the folder, or it cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = filelock.FileLock(folder / "owner.lock", blocking=False)
            self._lock.acquire()
        except filelock.Timeout as error:
            raise Fatal(f"lexical folder {str(folder)!r} is owned by another process; give each its own") from error
        except OSError as error:
            raise Fatal(f"lexical folder {str(folder)!r} cannot be written: {error}") from error
        self._path = folder / "index"
        self._analyzer = _analyzer()
        self._pending: dict[str, int] = {}
        try:
            self._open()
        except (ValueError, OSError):
            self.wipe()

    def _open(self) -> None:
        self._path.mkdir(exist_ok=True)
        self._schema = _schema()
        self._index = tantivy.Index(self._schema, path=str(self._path), reuse=True)
        self._index.register_tokenizer("english", self._analyzer)
        self._writer = self._index.writer(_WRITER_HEAP_BYTES, 1)
        self._searcher = self._index.searcher()
        self._pending.clear()

    def wipe(self) -> None:
        """Begin again with an empty index."""
        self._release()
        shutil.rmtree(self._path, ignore_errors=True)
        self._open()

    def close(self) -> None:
        """Give the folder back; what was not committed is lost."""
        self._release()
        self._lock.release()

    def _release(self) -> None:
        # tantivy holds its writer's lock until the object is gone
        for name in ("_writer", "_searcher", "_index"):
            self.__dict__.pop(name, None)

    def place(self) -> Place | None:
        """Return where the last commit stood; None when there was none or it cannot be read."""
        try:
            hits = self._searcher.search(self._term("key", _PLACE_KEY), 1, count=False).hits
            stored = self._searcher.doc(hits[0][1]).get_first("place") if hits else None
            return msgspec.json.decode(bytes(stored), type=Place) if stored is not None else None
        except (ValueError, OSError):
            return None

    def version(self, key: DocumentKey) -> int | None:
        """Return the version held of a document, deleted ones too; None when it was never seen."""
        name = str(key)
        if name in self._pending:
            return self._pending[name]
        hits = self._searcher.search(self._term("key", name), 1, count=False).hits
        held = self._searcher.fast_field_values("version", [hits[0][1]])[0] if hits else None
        return None if held is None else int(held)

    def held(self, key: DocumentKey) -> tuple[int, list[str]] | None:
        """Return version and chunk ids of a document as they are searched; None when it was never seen."""
        searcher, name = self._searcher, str(key)
        # at least as many as there are: it counts deleted entries, too
        limit = searcher.doc_freq("key", name)
        found = [at for _, at in searcher.search(self._term("key", name), limit, count=False).hits] if limit else []
        if not found:
            return None
        versions = [int(version) for version in searcher.fast_field_values("version", found) if version is not None]
        chunks = [searcher.doc(at).get_first("chunk") for at in found]
        return max(versions), [str(chunk) for chunk in chunks if chunk is not None]

    def replace(self, key: DocumentKey, version: int, document: DocumentChunked) -> bool:
        """Hold exactly the chunks of this version; False (and no change) when a newer one is held."""
        if not self._advance(key, version):
            return False
        shared = _shared_terms(key, document)
        for chunk in document.chunks:
            text = "\n".join((document.title or "", *chunk.headings, chunk.text))
            self._add(key, version, [("chunk", chunk.id), ("text", _clean(text)), *shared])
        if not document.chunks:
            self._add(key, version, [])
        return True

    def remove(self, key: DocumentKey, version: int) -> bool:
        """Hold no chunk of the document and remember the version; False when a newer one is held."""
        if not self._advance(key, version):
            return False
        self._add(key, version, [])
        return True

    def commit(self, place: Place) -> None:
        """Make all changes since the last commit durable and searchable, and `place` with them."""
        self._writer.delete_documents_by_term("key", _PLACE_KEY)
        entry = tantivy.Document()
        entry.add_text("key", _PLACE_KEY)
        entry.add_bytes("place", msgspec.json.encode(place))
        self._writer.add_document(entry)
        self._writer.commit()
        self._index.reload()
        self._searcher = self._index.searcher()
        self._pending.clear()

    def search(self, tenant: str, text: str, filters: Filters, limit: int) -> list[Candidate]:
        """Return at most `limit` chunks by BM25, best first, among those the reader may see."""
        terms = list(dict.fromkeys(self._analyzer.analyze(_clean(text))))[:_QUERY_TERMS_MAX]
        if not terms or limit < 1:
            return []
        words = [(tantivy.Occur.Should, self._term("text", term, "freq")) for term in terms]
        must = [tantivy.Query.boolean_query(words), *self._filter_queries(tenant, filters)]
        query = tantivy.Query.boolean_query([(tantivy.Occur.Must, part) for part in must])
        searcher = self._searcher
        hits = searcher.search(query, limit, count=False).hits
        return [Candidate(chunk=ChunkId(str(searcher.doc(at).get_first("chunk"))), score=score) for score, at in hits]

    def _advance(self, key: DocumentKey, version: int) -> bool:
        held = self.version(key)
        if held is not None and held > version:
            return False
        self._writer.delete_documents_by_term("key", str(key))
        self._pending[str(key)] = version
        return True

    def _add(self, key: DocumentKey, version: int, terms: Iterable[tuple[str, str]]) -> None:
        entry = tantivy.Document()
        entry.add_text("key", str(key))
        entry.add_unsigned("version", version)
        for name, value in terms:
            entry.add_text(name, value)
        self._writer.add_document(entry)

    def _term(self, name: str, value: str, index_option: str = "basic") -> tantivy.Query:
        return tantivy.Query.term_query(self._schema, name, value, index_option=index_option)

    def _filter_queries(self, tenant: str, filters: Filters) -> list[tantivy.Query]:
        """One query per condition; they choose chunks and leave the score alone."""
        conditions: list[Sequence[tantivy.Query]] = [
            [self._term("tenant", tenant)],
            [self._term("reader", reader) for reader in (_EVERYONE, *map(_group_term, filters.groups))],
        ]
        if filters.collection is not None:
            conditions.append([self._term("collection", bounded(filters.collection))])
        wanted = AllOf([plain(filters.metadata), parse(filters.where or {})])
        queries = [*map(_any_of, conditions), self._metadata_query(wanted)]
        return [tantivy.Query.const_score_query(query, 0.0) for query in queries]

    def _metadata_query(self, wanted: Condition) -> tantivy.Query:
        match wanted:
            case Among(field, values):
                return _any_of([self._term("facet", exact_term(field, value)) for value in values])
            case Compared():
                return self._range_query(between(wanted))
            case Exists(field):
                return self._term("facet", exists_term(field))
            case Not(inner):
                everything = (tantivy.Occur.Must, tantivy.Query.all_query())
                return tantivy.Query.boolean_query([everything, (tantivy.Occur.MustNot, self._metadata_query(inner))])
            case AllOf(inners):
                return _all_of([self._metadata_query(inner) for inner in inners])
            case AnyOf(inners):
                return _any_of([self._metadata_query(inner) for inner in inners])

    def _range_query(self, terms: Between) -> tantivy.Query:
        # Ranges of text have no constructor, only a syntax; there is nothing but hexadecimal digits to put into it.
        opening, closing = "[" if terms.with_lower else "{", "]" if terms.with_upper else "}"
        return self._index.parse_query(f"ordered:{opening}{terms.lower} TO {terms.upper}{closing}")


def _shared_terms(key: DocumentKey, document: DocumentChunked) -> list[tuple[str, str]]:
    readers = [_EVERYONE] if document.acl is None else [_group_term(group) for group in document.acl]
    return [
        ("tenant", key.tenant),
        ("collection", bounded(document.collection)),
        *(("reader", reader) for reader in readers),
        *(("facet", term) for term in exact_terms(document.metadata)),
        *(("ordered", term) for term in ordered_terms(document.metadata)),
    ]


def _group_term(group: str) -> str:
    # the prefix keeps a group that is called "*" from meaning everyone
    return bounded(f"={group}")


def _clean(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot hold."""
    return text.encode("utf-8", "replace").decode()


def _all_of(queries: Sequence[tantivy.Query]) -> tantivy.Query:
    if not queries:
        return tantivy.Query.all_query()
    return tantivy.Query.boolean_query([(tantivy.Occur.Must, query) for query in queries])


def _any_of(options: Sequence[tantivy.Query]) -> tantivy.Query:
    return tantivy.Query.boolean_query([(tantivy.Occur.Should, option) for option in options])


def _analyzer() -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    for step in (
        tantivy.Filter.remove_long(64),
        tantivy.Filter.lowercase(),
        tantivy.Filter.ascii_fold(),
        tantivy.Filter.stemmer("english"),
    ):
        builder = builder.filter(step)
    return builder.build()


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("chunk", stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("text", tokenizer_name="english", index_option="freq")
    for name in ("key", "tenant", "collection", "reader", "facet", "ordered"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    builder.add_unsigned_field("version", fast=True)
    builder.add_bytes_field("place", stored=True)
    return builder.build()
