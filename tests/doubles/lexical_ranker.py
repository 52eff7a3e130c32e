"""Best chunks by words, in memory."""

import math
from dataclasses import dataclass, field

from schemas.events import DocumentChunked, DocumentEmbedded, Filters
from schemas.ids import ChunkId, DocumentKey
from streams.ports import Candidate
from streams.text.words import words
from tests.doubles.passage_store import may_see


@dataclass(kw_only=True)
class MemoryLexicalRanker:
    """`LexicalRanker` on a dictionary: the version of each document, and its chunks (None: deleted)."""

    held: dict[DocumentKey, tuple[int, DocumentChunked | None]] = field(default_factory=dict)

    def write(self, key: DocumentKey, version: int, document: DocumentChunked | None) -> None:
        """Hold this version of a document; None deletes it. An older one than is held changes nothing."""
        if key not in self.held or self.held[key][0] <= version:
            self.held[key] = (version, document)

    async def matching(self, tenant: str, text: str, filters: Filters, limit: int) -> list[Candidate]:
        texts = {
            ChunkId(chunk.id): words("\n".join((document.title or "", *chunk.headings, chunk.text)))
            for _, document in self.held.values()
            if document is not None and may_see(tenant, filters, _embedded(document))
            for chunk in document.chunks
        }
        asked = set(words(text))
        n_with = {word: sum(word in held for held in texts.values()) for word in asked}
        found = []
        for name, held in texts.items():
            score = sum(math.log(1 + len(texts) / n_with[word]) / len(held) for word in asked & set(held))
            if score > 0:
                found.append(Candidate(chunk=name, score=score))
        return sorted(found, key=lambda candidate: (-candidate.score, candidate.chunk))[:limit]


def _embedded(document: DocumentChunked) -> DocumentEmbedded:
    return DocumentEmbedded(
        tenant=document.tenant,
        document=document.document,
        version=document.version,
        generation="g1",
        chunker=document.chunker,
        content_sha256=document.content_sha256,
        dim=0,
        chunks=document.chunks,
        vectors="",
        sentence_vectors="",
        collection=document.collection,
        metadata=document.metadata,
        acl=document.acl,
        submitted_ms=document.submitted_ms,
    )
