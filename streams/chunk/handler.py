"""Turns an accepted document into chunks, and keeps its parsed text so that a citation can be opened."""

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

from schemas.codec import Blobs
from schemas.events import Chunk, DocumentAccepted, DocumentChunked
from schemas.ids import DocumentKey, chunk_id
from schemas.topics import CHUNKS
from streams.chunk.document import Parsed
from streams.chunk.parser import Parser
from streams.ports import Clock, DocumentStore
from streams.progress import became, is_superseded, place_of
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
        generation: for which it is cut; None: for all.
    """

    parser: Parser
    documents: DocumentStore
    blobs: Blobs
    chunker: str
    clock: Clock
    generation: str | None = None

    async def __call__(self, record: Inbound[DocumentAccepted]) -> AsyncIterator[Outbound | Flush]:
        """Publish the chunks, or the tombstone, and say so; `superseded` where a newer version exists."""
        key, version = place_of(record)
        if await is_superseded(self.documents, key, version):
            yield became("superseded", key, version, stage="chunk", clock=self.clock)
            return
        topic = CHUNKS.named(self.chunker)
        if record.event is None:
            yield Outbound(topic=topic, key=key.encode(), event=None, version=version)
            return
        chunked = await self._chunked(key, record.event)
        # Once more, because parsing takes time: compaction keeps the last record, not the highest version.
        if await is_superseded(self.documents, key, version):
            yield became("superseded", key, version, stage="chunk", clock=self.clock)
            return
        yield Outbound(topic=topic, key=key.encode(), event=chunked, version=version)
        yield became(
            "chunked",
            key,
            version,
            stage="chunk",
            clock=self.clock,
            generation=self.generation,
            n_chunks=len(chunked.chunks),
        )

    async def _chunked(self, key: DocumentKey, event: DocumentAccepted) -> DocumentChunked:
        source = event.text if event.content is None else event.content
        parsed = await self.parser.parse(source, content_type=event.content_type, chunker=self.chunker)
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
                page=piece.page,
            )
        )
    return chunks
