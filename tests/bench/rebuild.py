"""How long a rebuild takes beside embedding anew: `python -m tests.bench.rebuild --chunks 2000`.

A stack is filled from the ingest topic with its real encoder. Then the table of chunks is dropped and rebuilt. What
exact search and HNSW find of the same vectors is compared before and after.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from headrace.client import Client
from headrace.operations import Operations
from tests.bench.verify import PER_DOCUMENT, fill
from tests.stack import Stack, running

N_SEARCHES = 100
K = 10
EXACT = "SELECT chunk_id FROM chunks_g1 ORDER BY (embedding <=> $1::text::halfvec) + 0, chunk_id LIMIT 10"
"""The sum keeps the index out."""
NEAR = "SELECT chunk_id FROM chunks_g1 ORDER BY embedding <=> $1::text::halfvec LIMIT 10"

Found = list[list[str]]


def searched(stack: Stack, vectors: list[str]) -> tuple[Found, Found]:
    """Return what is found of each vector: exactly, and by HNSW."""

    async def search() -> tuple[Found, Found]:
        connection = await asyncpg.connect(stack.environment["HEADRACE_POSTGRES_DSN"])
        try:
            await connection.execute("SET enable_seqscan = off")
            found: tuple[Found, Found] = ([], [])
            for vector in vectors:
                for kept, query in zip(found, (EXACT, NEAR), strict=True):
                    kept.append([row["chunk_id"] for row in await connection.fetch(query, vector)])
            return found
        finally:
            await connection.close()

    return asyncio.run(search())


def overlap(one: Found, other: Found) -> float:
    """Return how much of what one found the other found, of 1."""
    return sum(len(set(a) & set(b)) for a, b in zip(one, other, strict=True)) / (K * len(one))


def rebuild(stack: Stack) -> tuple[dict[str, Any], float]:
    """Rebuild the table; returns what was told, and seconds."""
    begun = time.perf_counter()
    with Client(stack.url, "operator-key") as client:
        operations = Operations(client=client)
        found = operations.rebuild("g1", sink="pgvector")
        while found["state"] in ("asked", "running"):
            time.sleep(0.1)
            found = operations.rebuild_progress(found["id"])
    return found, time.perf_counter() - begun


def main() -> None:
    """Run by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=2_000)
    parser.add_argument("--home", type=Path, default=None, help="folder of the stack")
    arguments = parser.parse_args()
    home = arguments.home or Path(tempfile.mkdtemp(prefix="headrace-rebuild-"))
    with running(home) as stack:
        n_chunks, filled_s = fill(stack, arguments.chunks // PER_DOCUMENT)
        rows = stack.sql("SELECT embedding::text FROM chunks_g1 ORDER BY md5(chunk_id) LIMIT $1", N_SEARCHES)
        vectors = [row["embedding"] for row in rows]
        exact, near = searched(stack, vectors)
        encoded = stack.encoded_chunks()
        stack.sql("DROP TABLE chunks_g1")
        told, rebuilt_s = rebuild(stack)
        exact_after, near_after = searched(stack, vectors)
        again = stack.encoded_chunks() - encoded
    print(f"chunks {n_chunks}; embedded and indexed in {filled_s:.1f} s, rebuilt in {rebuilt_s:.1f} s")
    print(f"ratio {filled_s / rebuilt_s:.1f}; encoder calls {again:.0f}; {told['state']}, {told['progress']}")
    print(f"exact search identical: {exact == exact_after}; HNSW overlap@{K} {overlap(near, near_after):.4f}")
    print(f"HNSW against exact: before {overlap(exact, near):.4f}, after {overlap(exact_after, near_after):.4f}")


if __name__ == "__main__":
    main()
