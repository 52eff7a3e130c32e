"""Where log and tables differ about a document: a pure comparison of what is known of it on each side.

| kind | what differs |
| --- | --- |
| `unknown` | the documents topic holds a version that `documents` does not know |
| `log_behind` | the documents topic lacks the latest version |
| `chunks_behind` | the chunks topic lacks the live version |
| `embeddings_behind` | the embeddings topic lacks the live version |
| `not_live` | no version is live, though the latest one did not fail |
| `live_behind` | an older version is live, though the latest one did not fail |
| `deleted_live` | the latest version deletes it, but a version is live or chunks are left |
| `orphaned` | there are chunks, but no version is live |
| `chunks_missing` | the live version lacks chunks |
| `chunks_left_over` | there are chunks that the live version does not have |
| `chunks_altered` | texts, spans, headings or sentences differ |
| `vectors_altered` | vectors of chunks or sentences differ |
| `attributes_differ` | collection, metadata or acl differ |
| `status_stuck` | the latest version is live, and the status does not say so |
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from schemas.ids import DocumentKey

FINDINGS_MAX: Final = 10_000
"""Differences that a verification keeps of each who looked."""
KINDS: Final = (
    "unknown",
    "log_behind",
    "chunks_behind",
    "embeddings_behind",
    "not_live",
    "live_behind",
    "deleted_live",
    "orphaned",
    "chunks_missing",
    "chunks_left_over",
    "chunks_altered",
    "vectors_altered",
    "attributes_differ",
    "status_stuck",
)
CATCHING_UP: Final = frozenset(
    {"log_behind", "chunks_behind", "embeddings_behind", "not_live", "live_behind", "deleted_live"}
)
"""Kinds that pass by themselves while stages have records to work on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One chunk, wherever it was read. `vector` and `sentence_vectors` are little-endian float16."""

    chunk: str
    text: str
    start: int
    end: int
    headings: Sequence[str]
    sentences: Sequence[Sequence[int]]
    page: int | None
    vector: bytes
    sentence_vectors: bytes
    collection: str
    metadata: Mapping[str, Any]
    acl: Sequence[str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """The chunks of a document in few bytes: ids as they are, all else as digests."""

    ids: bytes
    texts: bytes
    vectors: bytes
    attributes: bytes

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Contents":
        """Digest chunks, which come in the order of the document."""
        ids: list[bytes] = []
        texts, vectors, attributes = (hashlib.blake2b(digest_size=16) for _ in range(3))
        for row in rows:
            ids.append(row.chunk.encode())
            _add(texts, [row.text, row.start, row.end, row.headings, row.sentences, row.page])
            for part in (row.vector, row.sentence_vectors):
                vectors.update(len(part).to_bytes(8, "big"))
                vectors.update(part)
            acl = None if row.acl is None else sorted(row.acl)
            _add(attributes, [row.collection, _plain(row.metadata), acl])
        return cls(ids=b" ".join(ids), texts=texts.digest(), vectors=vectors.digest(), attributes=attributes.digest())

    @property
    def chunks(self) -> frozenset[bytes]:
        """Ids of the chunks."""
        return frozenset(self.ids.split())


NOTHING: Final = Contents.of(())


@dataclass(slots=True, kw_only=True)
class Logged:
    """The last record of a document in each topic: its version; None where the topic holds none.

    `contents` is of the embeddings topic; None of a tombstone.
    """

    accepted: int | None = None
    chunked: int | None = None
    embedded: int | None = None
    contents: Contents | None = None


@dataclass(slots=True, kw_only=True)
class Stored:
    """What the tables say of a document.

    Attributes:
        latest: version; 0: `documents` knows none.
        deleted: the latest version deletes it.
        failed: the latest version has failed.
        settled: the status speaks of the latest version and says indexed or deleted.
        live: version that is live; None: none.
        live_deleted: what is live is a delete.
        contents: of the generation's chunks.
        age_s: how long ago the latest version was accepted.
    """

    latest: int = 0
    deleted: bool = False
    failed: bool = False
    settled: bool = False
    live: int | None = None
    live_deleted: bool = False
    contents: Contents = NOTHING
    age_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Log and tables differ about a document. `version` is what a re-issue would do again."""

    kind: str
    key: DocumentKey
    version: int
    detail: str


def differences(key: DocumentKey, logged: Logged, stored: Stored) -> list[Difference]:
    """Return all that differs about one document."""
    version = max(stored.latest, logged.accepted or 0, 1)
    found = [*_versions(logged, stored), *_contents(logged, stored)]
    return [Difference(kind=kind, key=key, version=version, detail=detail) for kind, detail in found]


def _versions(logged: Logged, stored: Stored) -> Iterable[tuple[str, str]]:
    latest, accepted = stored.latest, logged.accepted or 0
    if accepted > latest:
        yield "unknown", f"the log holds version {accepted}, documents knows {latest or 'none'}"
    elif accepted < latest:
        yield "log_behind", f"the latest version is {latest}, the log holds {accepted or 'none'}"
    if stored.deleted:
        if (stored.live is not None and not stored.live_deleted) or stored.contents != NOTHING:
            yield "deleted_live", f"version {latest} deletes it; live is {stored.live}, with chunks or without"
        return
    if stored.live is None:
        if stored.contents != NOTHING:
            yield "orphaned", f"{len(stored.contents.chunks)} chunks, and no version is live"
        if latest and not stored.failed:
            yield "not_live", f"version {latest} is not live"
        return
    if stored.live < latest and not stored.failed:
        yield "live_behind", f"version {stored.live} is live, the latest is {latest}"
    if stored.live == latest and stored.live_deleted:
        yield "not_live", f"version {latest} is live as a delete, and deletes nothing"
    if stored.live == latest and not stored.settled:
        yield "status_stuck", f"version {latest} is live, and its status does not say so"
    for name, version in (("chunks", logged.chunked), ("embeddings", logged.embedded)):
        if (version or 0) < stored.live:
            yield f"{name}_behind", f"version {stored.live} is live, the {name} topic holds {version or 'none'}"


def _contents(logged: Logged, stored: Stored) -> Iterable[tuple[str, str]]:
    """Compare chunks, where the topic speaks of the version that is live."""
    wanted, held = logged.contents, stored.contents
    if stored.deleted or stored.live is None or stored.live_deleted or logged.embedded != stored.live or wanted is None:
        return
    missing, extra = wanted.chunks - held.chunks, held.chunks - wanted.chunks
    if missing:
        yield "chunks_missing", f"{len(missing)} of {len(wanted.chunks)} chunks"
    if extra:
        yield "chunks_left_over", f"{len(extra)} chunks beside {len(wanted.chunks)}"
    if missing or extra:
        return
    if wanted.texts != held.texts or wanted.ids != held.ids:
        yield "chunks_altered", "texts, spans, headings or sentences"
    if wanted.vectors != held.vectors:
        yield "vectors_altered", "vectors of chunks or of sentences"
    if wanted.attributes != held.attributes:
        yield "attributes_differ", "collection, metadata or acl"


def _add(digest: Any, value: Any) -> None:
    raw = msgspec.json.encode(value)
    digest.update(len(raw).to_bytes(8, "big"))
    digest.update(raw)


def _plain(value: Any) -> Any:
    """Write a JSON value in one way: members in order, 1.0 as 1, as a column of jsonb may give it back."""
    if isinstance(value, Mapping):
        return {name: _plain(value[name]) for name in sorted(value)}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
