"""The rankings that the retrieve stage would fuse, over a labelled set: exact dense search and the tantivy index."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from schemas.events import Chunk, DocumentChunked, Filters
from schemas.ids import ChunkId, DocumentId, DocumentKey, Tenant
from streams.adapters.openvino_encoder import OpenvinoEncoder
from streams.adapters.tantivy_index import Place, TantivyIndex
from streams.ports import Candidate, Encoded, Vectors
from tests.bench.labelled import Labelled

DEPTH = 100


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """What each ranker proposes for each question; `vectors` has shape (n_questions, dim)."""

    dense: list[list[Candidate]]
    lexical: list[list[Candidate]]
    encoded: Encoded
    vectors: Vectors


async def rank(labelled: Labelled, encoder: OpenvinoEncoder) -> Ranked:
    """Encode and index the corpus, and ask every question."""
    encoded = await encoder.encode_chunks(labelled.chunks)
    vectors = np.concatenate([await encoder.encode_query(question.text) for question in labelled.questions])
    with TemporaryDirectory() as folder:
        index = indexed(labelled.chunks, Path(folder))
        lexical = [index.search("bench", question.text, Filters(), DEPTH) for question in labelled.questions]
        index.close()
    names = [chunk.id for chunk in labelled.chunks]
    dense = [nearest(encoded.chunks, names, vector) for vector in vectors]
    return Ranked(dense=dense, lexical=lexical, encoded=encoded, vectors=vectors)


def indexed(chunks: Sequence[Chunk], folder: Path) -> TantivyIndex:
    """Index every chunk as a document of its own."""
    index = TantivyIndex(folder)
    for chunk in chunks:
        document = DocumentChunked(
            tenant="bench",
            document=chunk.id,
            version=1,
            chunker="none",
            content_sha256="",
            chunks=[chunk],
            submitted_ms=0,
        )
        index.replace(DocumentKey(Tenant("bench"), DocumentId(chunk.id)), 1, document)
    index.commit(Place(topic_id="", next_offsets={}, committed_ms=0))
    return index


def nearest(matrix: Vectors, names: Sequence[str], vector: Vectors) -> list[Candidate]:
    """Search exactly."""
    cosines = matrix @ vector
    best = np.argsort(-cosines, kind="stable")[:DEPTH]
    return [Candidate(chunk=ChunkId(names[i]), score=float(cosines[i])) for i in best]
