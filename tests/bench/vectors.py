"""How right and how fast the nearest vectors come: exact, by pgvector's HNSW, and by OpenSearch's k-NN.

`python -m tests.bench.vectors --n 200000` indexes synthetic vectors (clustered, the same each time) by the very
adapters that the product uses, into an embedded Postgres and an embedded OpenSearch of its own, and asks one question
after another, with filters that keep more and fewer chunks, and for a tenant that has one chunk in ten thousand.
`--data FILE` takes real ones instead: a .npy of shape (n, dim); its last rows are the questions.

Recall is the share of the true ten nearest that is among the ten found. The truth is computed in this process, from the
vectors as they are held: in half precision.
"""

import argparse
import asyncio
import base64
import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg
import numpy as np
import psutil

from backbone.postgres import open_pool
from backbone.settings import OpensearchSettings, PostgresSettings
from headrace.local.postgres import create_database
from schemas.events import Chunk, DocumentEmbedded, Filters
from schemas.postgres.generation import chunks_table, create_generation
from schemas.postgres.migrate import upgrade
from streams.adapters.opensearch import open_client
from streams.adapters.opensearch_index import OpensearchIndex
from streams.adapters.opensearch_rankers import OpensearchVectors
from streams.adapters.pgvector_ranker import PgvectorRanker
from streams.adapters.postgres_generation import PostgresGeneration
from streams.errors import Transient
from streams.ports import DenseRanker, Vectors
from streams.wiring import SystemClock
from tests.parts.embedded import EmbeddedParts

GENERATION: Final = "bench"
LARGE, SMALL = "large", "small"
SMALL_SHARE: Final = 10_000
"""The small tenant has one chunk of so many."""
SHARES: Final = {"100 %": 1, "10 %": 10, "5 %": 20, "2.5 %": 40, "1 %": 100, "0.1 %": 1_000}
"""What a filter keeps: one document of so many."""
DOCUMENTS: Final = 2_000
"""As many as make the smallest share two documents."""
PER_CLUSTER: Final = 100
SPREAD: Final = 1.0
"""Length of what a vector has of its own, as a multiple of what it shares with its cluster."""
LIMIT: Final = 10
SLOTS: Final = 8
STATEMENT_S: Final = 600.0
PAUSES_S: Final = (0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(frozen=True, kw_only=True)
class Vectored:
    """What is indexed.

    Attributes:
        rows: shape (n, dim), float32, L2-normalised, as exact as half precision; documents of equally many lie one
            after the other, the last rows are the small tenant's one document.
        questions: shape (n, dim), as `rows`.
        n_small: rows of the small tenant.
        per_document: rows of each other document.
    """

    rows: Vectors
    questions: Vectors
    n_small: int
    per_document: int

    @property
    def n_large(self) -> int:
        """Rows of the large tenant."""
        return len(self.rows) - self.n_small

    def kept(self, one_of: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
        """Return the numbers of the large tenant's rows that a filter keeps."""
        return np.flatnonzero(np.arange(self.n_large) // self.per_document % one_of == 0)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A way to ask: what it keeps, and the numbers of the rows that are kept."""

    name: str
    tenant: str
    filters: Filters
    kept: "np.ndarray[Any, np.dtype[np.int64]]"


@dataclass(frozen=True, kw_only=True)
class Found:
    """How one way to rank did: recall@10, and the seconds of each question."""

    recall: float
    seconds: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """How indexing went. `n_refused`: how often the store was too busy for a document."""

    seconds: float
    n_refused: int


def synthetic(n: int, dim: int, n_questions: int) -> Vectors:
    """Draw vectors around centres, `PER_CLUSTER` around each; questions are drawn as the others."""
    random = np.random.default_rng(7)
    centres = _unit(random.normal(size=(max(1, n // PER_CLUSTER), dim)))
    of = random.integers(len(centres), size=n + n_questions)
    own = _unit(random.normal(size=(n + n_questions, dim)))
    return _unit(centres[of] + SPREAD * own)


def vectored(every: Vectors, n_questions: int) -> Vectored:
    """Split vectors into what is indexed and what is asked.

    Raises:
        ValueError: there are too few.
    """
    n = len(every) - n_questions
    if n < DOCUMENTS:
        raise ValueError(f"there are {n} vectors beside {n_questions} questions; expected {DOCUMENTS} or more")
    n_small = max(1, n // SMALL_SHARE)
    per_document = -(-(n - n_small) // DOCUMENTS)
    held = _unit(every).astype("<f2").astype(np.float32)
    return Vectored(rows=held[:n], questions=held[n:], n_small=n_small, per_document=per_document)


def ways(data: Vectored) -> list[Asked]:
    """Return the filters that are asked for, and the small tenant."""
    large = [
        Asked(
            name=name,
            tenant=LARGE,
            filters=Filters() if one_of == 1 else Filters(metadata={f"one of {one_of}": [True]}),
            kept=data.kept(one_of),
        )
        for name, one_of in SHARES.items()
    ]
    small = Asked(name="small tenant", tenant=SMALL, filters=Filters(), kept=np.arange(data.n_large, len(data.rows)))
    return [*large, small]


def documents(data: Vectored) -> list[DocumentEmbedded]:
    """Return the documents whose chunks have these vectors; the id of a chunk is the number of its row."""
    starts = [*range(0, data.n_large, data.per_document), data.n_large, len(data.rows)]
    made = []
    for number, (start, end) in enumerate(itertools.pairwise(starts)):
        made.append(
            DocumentEmbedded(
                tenant=LARGE if start < data.n_large else SMALL,
                document=f"d{number}",
                version=1,
                generation=GENERATION,
                chunker="none",
                content_sha256="0" * 64,
                dim=data.rows.shape[1],
                chunks=[
                    Chunk(id=f"{row}", ordinal=row - start, text=f"text {row}", start=0, end=1, n_tokens=1)
                    for row in range(start, end)
                ],
                vectors=base64.b64encode(data.rows[start:end].astype("<f2").tobytes()).decode(),
                sentence_vectors="",
                metadata={f"one of {one_of}": True for one_of in SHARES.values() if number % one_of == 0},
                submitted_ms=0,
            )
        )
    return made


def truth(data: Vectored, way: Asked) -> list[set[str]]:
    """Return the chunk ids of the true nearest of each question, among those that are kept."""
    cosines = data.questions @ data.rows[way.kept].T
    best = np.argsort(-cosines, axis=1, kind="stable")[:, :LIMIT]
    return [{str(way.kept[column]) for column in row} for row in best]


async def measured(ranker: DenseRanker, data: Vectored, way: Asked, true: Sequence[set[str]]) -> Found:
    """Ask every question, one after the other; the first ones are asked twice, and the first time is not counted."""
    hits = wanted = 0
    seconds = []
    for question in data.questions[:10]:
        await ranker.nearest(way.tenant, question, way.filters, LIMIT)
    for question, best in zip(data.questions, true, strict=True):
        began = time.perf_counter()
        found = await ranker.nearest(way.tenant, question, way.filters, LIMIT)
        seconds.append(time.perf_counter() - began)
        hits += len({candidate.chunk for candidate in found} & best)
        wanted += len(best)
    return Found(recall=hits / wanted, seconds=seconds)


def in_process(data: Vectored, way: Asked) -> Found:
    """Search exactly in this process, as a measure of what one matrix product takes."""
    rows = data.rows[way.kept]
    seconds = []
    for question in data.questions:
        began = time.perf_counter()
        cosines = rows @ question
        best = np.argpartition(-cosines, min(LIMIT, len(rows) - 1))[:LIMIT]
        best[np.argsort(-cosines[best])]
        seconds.append(time.perf_counter() - began)
    return Found(recall=1.0, seconds=seconds)


async def fill(replace: Callable[[DocumentEmbedded], Awaitable[bool]], every: Sequence[DocumentEmbedded]) -> Filled:
    """Index documents, several at once; what a store is too busy for is sent again, as the stages do."""
    slots = asyncio.Semaphore(SLOTS)
    n_refused = 0

    async def one(document: DocumentEmbedded) -> None:
        nonlocal n_refused
        async with slots:
            for pause_s in itertools.chain(PAUSES_S, itertools.repeat(PAUSES_S[-1])):
                try:
                    await replace(document)
                except Transient:
                    n_refused += 1
                    await asyncio.sleep(pause_s)
                else:
                    return

    began = time.monotonic()
    await asyncio.gather(*map(one, every))
    return Filled(seconds=time.monotonic() - began, n_refused=n_refused)


@asynccontextmanager
async def in_postgres(
    dsn: str, data: Vectored, every: Sequence[DocumentEmbedded]
) -> AsyncIterator[tuple[str, Mapping[str, DenseRanker]]]:
    """Index into pgvector; gives what that took, and its ways to rank."""
    await create_database(dsn)
    await upgrade(dsn)
    connection = await asyncpg.connect(dsn)
    await create_generation(connection, GENERATION, "none", "synthetic", data.rows.shape[1])
    await connection.close()
    pool = await open_pool(PostgresSettings.model_validate({"postgres_dsn": dsn}), statement_s=STATEMENT_S)
    store = PostgresGeneration(pool=pool, generation=GENERATION, dim=data.rows.shape[1])
    filled = await fill(store.replace, every)
    table = chunks_table(GENERATION)
    for each in (table, "live"):
        await pool.execute(f"VACUUM ANALYZE {each}")
    n_bytes = await pool.fetchval(
        "SELECT sum(pg_relation_size(i.indexrelid))::float8 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "JOIN pg_am m ON m.oid = c.relam WHERE i.indrelid = $1::regclass AND m.amname = 'hnsw'",
        table,
    )
    rankers = {
        "pgvector, exact": PgvectorRanker(pool=pool, generation=GENERATION, exact_max_rows=len(data.rows)),
        "pgvector, HNSW": PgvectorRanker(pool=pool, generation=GENERATION, exact_max_rows=0),
        "pgvector, as it is used": PgvectorRanker(pool=pool, generation=GENERATION),
    }
    yield cost("pgvector", len(data.rows), filled, f"HNSW {n_bytes / 1e6:.0f} MB", memory_of("postgres")), rankers
    await pool.close()


@asynccontextmanager
async def in_opensearch(
    url: str, data: Vectored, every: Sequence[DocumentEmbedded]
) -> AsyncIterator[tuple[str, Mapping[str, DenseRanker]]]:
    """Index into OpenSearch; gives what that took, and its way to rank."""
    async with open_client(OpensearchSettings.model_validate({"opensearch_url": url})) as client:
        index = OpensearchIndex(client=client, generation=GENERATION, dim=data.rows.shape[1], clock=SystemClock())
        await index.ensure()
        filled = await fill(index.replace, every)
        await index.refresh()
        stats = (await client.indices.stats(index=index.name))["_all"]["primaries"]
        size = f"index {stats['store']['size_in_bytes'] / 1e6:.0f} MB, {stats['segments']['count']} segments"
        rankers = {"OpenSearch, k-NN": OpensearchVectors(client=client, index=index.name)}
        yield cost("OpenSearch", len(data.rows), filled, size, memory_of("java")), rankers


def memory_of(name: str) -> str:
    """Resident memory of the processes of this name that this one has started."""
    rss = [
        each.memory_info().rss for each in psutil.Process(os.getpid()).children(recursive=True) if name in each.name()
    ]
    return f"{max(rss, default=0) / 1e6:.0f} MB resident (the largest process)"


def cost(store: str, n: int, filled: Filled, *more: str) -> str:
    """Return what indexing took."""
    rate = f"{n} vectors indexed in {filled.seconds:.0f} s, {n / filled.seconds:.0f}/s"
    return f"{store}: {rate}, {filled.n_refused} times too busy; {'; '.join(more)}"


def row(name: str, way: Asked, found: Found) -> str:
    """Return a row of the table."""
    p50, p95 = (1000 * float(np.percentile(found.seconds, q)) for q in (50, 95))
    return f"| {name} | {way.name} | {len(way.kept)} | {found.recall:.3f} | {p50:.1f} | {p95:.1f} |"


def compare(data: Vectored, stores: Sequence[str]) -> None:
    """Print what indexing took, and the table, row by row."""
    every, asked = documents(data), ways(data)
    true = {way.name: truth(data, way) for way in asked}
    print(f"{len(data.rows)} vectors of {data.rows.shape[1]}, {len(data.questions)} questions, one at a time\n")
    print("| ranker | a filter keeps | chunks | recall@10 | p50 ms | p95 ms |")
    print("|---|---|---:|---:|---:|---:|")
    for way in asked:
        print(row("one matrix product", way, in_process(data, way)), flush=True)

    costs: list[str] = []

    async def rank(opened: AbstractAsyncContextManager[tuple[str, Mapping[str, DenseRanker]]]) -> None:
        async with opened as (took, rankers):
            costs.append(took)
            for title, ranker in rankers.items():
                for way in asked:
                    print(row(title, way, await measured(ranker, data, way, true[way.name])), flush=True)

    with tempfile.TemporaryDirectory() as folder:
        parts = EmbeddedParts(folder=lambda name: Path(tempfile.mkdtemp(prefix=name, dir=folder)))
        if "pgvector" in stores:
            with parts.postgres() as postgres:
                asyncio.run(rank(in_postgres(postgres.where("bench"), data, every)))
        if "opensearch" in stores:
            with parts.opensearch() as opensearch:
                asyncio.run(rank(in_opensearch(opensearch.where, data, every)))
    print("\n" + "\n".join(costs))


def _unit(rows: "np.ndarray[Any, np.dtype[np.floating[Any]]]") -> Vectors:
    long: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return long


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=20_000, help="synthetic vectors, or the first so many real ones")
    parser.add_argument("--dim", type=int, default=384, help="of synthetic ones")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--data", type=Path, help="a .npy of real vectors")
    parser.add_argument("--stores", nargs="+", choices=("pgvector", "opensearch"), default=("pgvector", "opensearch"))
    args = parser.parse_args()
    if args.data:
        every = np.load(args.data, mmap_mode="r")
        every = np.concatenate([every[: min(args.n, len(every) - args.questions)], every[-args.questions :]])
    else:
        every = synthetic(args.n, args.dim, args.questions)
    try:
        data = vectored(every, args.questions)
    except ValueError as error:
        parser.error(str(error))
    compare(data, args.stores)


if __name__ == "__main__":
    main()
