"""What each embedder and each chunker costs and finds: `python -m tests.bench.embedders --data DIR --model DIR`.

First the speed of each embedder, and how near its vectors are to those of the first one; then nDCG@10 by document of
exact dense search, and of its fusion with the lexical index, for each embedder with each chunker. Passages are joined
to documents of several sections, so that chunkers have something to cut.
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from backbone.settings import EncoderSettings
from schemas.events import Chunk, Filters
from schemas.ids import DocumentId, DocumentKey, Tenant
from streams.adapters.encoders import Encoders
from streams.chunk.chunkers import CHUNKERS, make_chunker
from streams.chunk.chunkers.bounds import whole_tokenizer
from streams.chunk.cut import parse_and_cut
from streams.chunk.handler import named_chunks
from streams.ports import Encoder, Vectors
from streams.retrieve.fusion import fuse
from tests.bench.gate_samples import Sample, sample
from tests.bench.labelled import read
from tests.bench.ranked import indexed, nearest
from tests.bench.retrieval import ndcg

EMBEDDERS = ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2@int8")
SETS = ("scifact", "nq_open_gold")
TIMED_QUESTIONS = 100
DEPTH = 100


async def speed(name: str, encoder: Encoder, chunks: Sequence[Chunk], asked: Sequence[str]) -> tuple[str, Vectors]:
    """Return a row of the first table but for its last cell, and the vectors."""
    await encoder.encode_chunks(chunks[:16])
    begun = time.perf_counter()
    vectors = (await encoder.encode_chunks(chunks)).chunks
    chunks_s = time.perf_counter() - begun
    each_s = []
    for text in asked:
        begun = time.perf_counter()
        await encoder.encode_query(text)
        each_s.append(time.perf_counter() - begun)
    per_query_ms = statistics.median(each_s) * 1000
    return f"| {name} | {encoder.dim} | {len(chunks) / chunks_s:.1f} | {per_query_ms:.1f}", vectors


def nearness(vectors: Vectors, others: Vectors) -> str:
    """Return mean and least cosine of vectors that another embedder made; a dash where they have another length."""
    if vectors.shape != others.shape:
        return "–"
    cosines = (vectors * others).sum(axis=1)
    return f"{cosines.mean():.6f} ({cosines.min():.6f})"


def cut(asked: Sample, chunker: str, tokenizer_file: Path) -> list[tuple[str, Chunk]]:
    """Return (document, chunk) of a sample's documents."""
    cutting = make_chunker(chunker, whole_tokenizer(tokenizer_file))
    return [
        (document, chunk)
        for document, text in asked.documents.items()
        for chunk in named_chunks(
            DocumentKey(Tenant("bench"), DocumentId(document)), chunker, parse_and_cut(text, "text/markdown", cutting)
        )
    ]


async def found(asked: Sample, chunks: Sequence[tuple[str, Chunk]], encoder: Encoder) -> tuple[float, float]:
    """Return mean nDCG@10 by document: of dense search, and of dense and lexical search fused."""
    matrix = (await encoder.encode_chunks([chunk for _, chunk in chunks])).chunks
    document_of = {chunk.id: document for document, chunk in chunks}
    dense_gains: list[float] = []
    fused_gains: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        index = indexed([chunk for _, chunk in chunks], Path(folder))
        for question in asked.questions:
            vector = (await encoder.encode_query(question.text))[0]
            dense = nearest(matrix, list(document_of), vector)
            lexical = index.search("bench", question.text, Filters(), DEPTH)
            fused = [one.chunk for one in fuse({"dense": dense, "lexical": lexical})]
            for gains, order in ((dense_gains, [one.chunk for one in dense]), (fused_gains, fused)):
                documents = list(dict.fromkeys(document_of[chunk] for chunk in order))
                gains.append(ndcg(documents, question.relevant))
        index.close()
    return float(np.mean(dense_gains)), float(np.mean(fused_gains))


async def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled sets")
    parser.add_argument("--model", type=Path, required=True, help="folder of model.safetensors and tokenizer.json")
    parser.add_argument("--embedders", nargs="+", default=EMBEDDERS)
    parser.add_argument("--chunkers", nargs="*", default=tuple(CHUNKERS))
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--chunks", type=int, default=256, help="how many are timed")
    parser.add_argument("--passages", type=int, default=400, help="of each set")
    parser.add_argument("--questions", type=int, default=200, help="of each set")
    args = parser.parse_args()
    encoders = Encoders(settings=EncoderSettings(model_dir=args.model))
    opened: dict[str, Encoder] = {}
    for name in args.embedders:
        dim = await asyncio.to_thread(encoders.dimension, name)
        opened[name] = encoders.get(name, dim=dim, lane="bench")
    timed = read(args.data / args.sets[0])
    questions = [question.text for question in timed.questions[:TIMED_QUESTIONS]]
    print("| embedder | dimensions | chunks/s | ms a question, median | cosine to the first, mean (least) |")
    print("|---|---|---|---|---|")
    first: Vectors | None = None
    for name, encoder in opened.items():
        row, vectors = await speed(name, encoder, timed.chunks[: args.chunks], questions)
        first = vectors if first is None else first
        print(f"{row} | {nearness(first, vectors)} |", flush=True)
    print("\n| set | chunker | chunks | embedder | nDCG@10, dense | nDCG@10, hybrid |\n|---|---|---|---|---|---|")
    for of_set, chunker in itertools.product(args.sets, args.chunkers):
        asked = sample(args.data, of_set, args.passages, args.questions)
        chunks = cut(asked, chunker, args.model / "tokenizer.json")
        for name, encoder in opened.items():
            dense, hybrid = await found(asked, chunks, encoder)
            print(f"| {of_set} | {chunker} | {len(chunks)} | {name} | {dense:.4f} | {hybrid:.4f} |", flush=True)
    await encoders.close()


if __name__ == "__main__":
    asyncio.run(main())
