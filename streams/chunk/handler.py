"""Turns an accepted document into chunks, and keeps its parsed text so that a citation can be opened."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

from schemas.codec import Blobs
from schemas.events import Chunk, DocumentAccepted, DocumentChunked, LifecycleChanged
from schemas.ids import DocumentKey, InvalidId, chunk_id, parse_document_key
from schemas.topics import CHUNKS, LIFECYCLE
from streams.chunk.document import Parsed
from streams.chunk.parser import Parser
from streams.errors import Unprocessable
from streams.ports import Clock, DocumentStore
from streams.runtime.record import Flush, Inbound, Outbound


@dataclass(frozen=True, kw_only=True)
class ChunkDocument:
    """The handler of the documents topic.

    Attributes:
        parser: parses and cuts.
        documents: knows the newest version of a document.
        blobs: keeps parsed texts.
        chunker: name of the chunker, as in its topic.
        clock: stamps what was done.
    """

    parser: Parser
    documents: DocumentStore
    blobs: Blobs
    chunker: str
    clock: Clock

    async def __call__(self, record: Inbound[DocumentAccepted]) -> AsyncIterator[Outbound | Flush]:
        """Publish the chunks, or the tombstone, and say so; `superseded` where a newer version exists."""
        key, version = _place(record)
        if await self._is_old(key, version):
            yield self._became("superseded", key, version)
            return
        topic = CHUNKS.named(self.chunker)
        if record.event is None:
            yield Outbound(topic=topic, key=key.encode(), event=None, version=version)
            return
        chunked = await self._chunked(key, record.event)
        # Once more, because parsing takes time: compaction keeps the last record, not the highest version.
        if await self._is_old(key, version):
            yield self._became("superseded", key, version)
            return
        yield Outbound(topic=topic, key=key.encode(), event=chunked, version=version)
        yield self._became("chunked", key, version, n_chunks=len(chunked.chunks))

    async def _chunked(self, key: DocumentKey, event: DocumentAccepted) -> DocumentChunked:
        parsed = await self.parser.parse(event.text, content_type=event.content_type, chunker=self.chunker)
        return DocumentChunked(
            tenant=event.tenant,
            document=event.document,
            version=event.version,
            chunker=self.chunker,
            content_sha256=await self.blobs.put(parsed.text.encode()),
            chunks=named_chunks(key, self.chunker, parsed),
            collection=event.collection,
            title=parsed.title if event.title is None else event.title,
            uri=event.uri,
            metadata=event.metadata,
            acl=event.acl,
            submitted_ms=event.submitted_ms,
        )

    async def _is_old(self, key: DocumentKey, version: int) -> bool:
        latest = await self.documents.latest_version(key)
        return latest is not None and latest > version

    def _became(self, status: str, key: DocumentKey, version: int, n_chunks: int | None = None) -> Outbound:
        event = LifecycleChanged(
            tenant=key.tenant,
            document=key.document,
            version=version,
            status=status,
            stage="chunk",
            at_ms=self.clock.now_ms(),
            n_chunks=n_chunks,
        )
        return Outbound(topic=LIFECYCLE, key=key.encode(), event=event, version=version)


def named_chunks(key: DocumentKey, chunker: str, parsed: Parsed) -> list[Chunk]:
    """Give each piece its id; pieces that say the same under the same headings are told apart by their occurrence."""
    seen: Counter[tuple[tuple[str, ...], str]] = Counter()
    chunks = []
    for ordinal, piece in enumerate(parsed.pieces):
        text = parsed.text[piece.start : piece.end]
        occurrence = seen[piece.headings, text]
        seen[piece.headings, text] += 1
        chunks.append(
            Chunk(
                id=chunk_id(key, chunker, piece.headings, text, occurrence),
                ordinal=ordinal,
                text=text,
                start=piece.start,
                end=piece.end,
                headings=list(piece.headings),
                n_tokens=piece.n_tokens,
                sentences=list(piece.sentences),
            )
        )
    return chunks


def _place(record: Inbound[DocumentAccepted]) -> tuple[DocumentKey, int]:
    """Return document and version of a record; its key and value must agree."""
    try:
        key = parse_document_key(record.key)
    except InvalidId as error:
        raise Unprocessable("bad_key", str(error)) from error
    if record.event is None:
        if record.version is None:
            raise Unprocessable("no_version", "a tombstone without a version header cannot be put in order")
        return key, record.version
    if (record.event.tenant, record.event.document) != (key.tenant, key.document):
        raise Unprocessable(
            "bad_key", f"the key is {str(key)!r}, the value speaks of {record.event.tenant}/{record.event.document!r}"
        )
    return key, record.event.version
