"""Gives every chunk of a document its vector; the encoder is spared for chunks that the generation holds already.

What is embedded is a function of what the chunk's id covers, headings and text, and never of the title: so a change of
the title or of metadata costs no encoder call, and a vector that is held for an id is right for it.
"""

import base64
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.events import Chunk, DocumentChunked, DocumentEmbedded
from schemas.ids import ChunkId
from schemas.topics import EMBEDDINGS
from streams.ports import Clock, DocumentStore, Encoder, GenerationStore, Vectors
from streams.progress import became, is_superseded, place_of
from streams.runtime.record import Flush, Inbound, Outbound

Vectored = tuple[Vectors, Vectors]
"""Vector of a chunk, shape (1, dim), and of its sentences, shape (n, dim)."""


@dataclass(frozen=True, kw_only=True)
class Embed:
    """The handler of a chunks topic.

    Attributes:
        encoder: makes vectors.
        generation: knows vectors that were made before.
        documents: knows the newest version.
        name: of the generation.
        clock: stamps what was done.
        on_spared: called with the number of chunks that needed no encoder.
    """

    encoder: Encoder
    generation: GenerationStore
    documents: DocumentStore
    name: str
    clock: Clock
    on_spared: Callable[[int], None] = lambda n: None

    async def __call__(self, record: Inbound[DocumentChunked]) -> AsyncIterator[Outbound | Flush]:
        """Publish the document with its vectors, or its tombstone; `superseded` where a newer version exists.

        Of a version that is done again every chunk is encoded, for what the generation holds may be wrong.
        """
        key, version = place_of(record)
        if await is_superseded(self.documents, key, version):
            yield became("superseded", key, version, stage="embed", clock=self.clock)
            return
        topic = EMBEDDINGS.named(self.name)
        document = record.event
        if document is None:
            yield Outbound(topic=topic, key=key.encode(), event=None, version=version)
            return
        vectored = await self._vectors(document.chunks, anew=record.reissue is not None)
        # once more, because encoding takes time
        if await is_superseded(self.documents, key, version):
            yield became("superseded", key, version, stage="embed", clock=self.clock)
            return
        event = _embedded(document, self.name, self.encoder.dim, vectored)
        yield Outbound(topic=topic, key=key.encode(), event=event, version=version)
        n_chunks = len(document.chunks)
        yield became("embedded", key, version, stage="embed", clock=self.clock, generation=self.name, n_chunks=n_chunks)

    async def _vectors(self, chunks: Sequence[Chunk], *, anew: bool) -> list[Vectored]:
        ids = [] if anew else [ChunkId(chunk.id) for chunk in chunks]
        known = await self.generation.known_vectors(ids)
        fresh = [chunk for chunk in chunks if ChunkId(chunk.id) not in known]
        encoded = await self.encoder.encode_chunks(fresh)
        self.on_spared(len(chunks) - len(fresh))
        made = {
            ChunkId(chunk.id): (encoded.chunks[row : row + 1], encoded.sentences[row])
            for row, chunk in enumerate(fresh)
        }
        return [made.get(ChunkId(chunk.id)) or known[ChunkId(chunk.id)] for chunk in chunks]


def _embedded(document: DocumentChunked, name: str, dim: int, vectored: Sequence[Vectored]) -> DocumentEmbedded:
    return DocumentEmbedded(
        tenant=document.tenant,
        document=document.document,
        version=document.version,
        generation=name,
        chunker=document.chunker,
        content_sha256=document.content_sha256,
        dim=dim,
        chunks=document.chunks,
        vectors=_base64([vector for vector, _ in vectored]),
        sentence_vectors=_base64([sentences for _, sentences in vectored]),
        collection=document.collection,
        title=document.title,
        uri=document.uri,
        metadata=document.metadata,
        acl=document.acl,
        submitted_ms=document.submitted_ms,
    )


def _base64(rows: Sequence[Vectors]) -> str:
    return base64.b64encode(b"".join(np.asarray(row, "<f2").tobytes() for row in rows)).decode("ascii")
