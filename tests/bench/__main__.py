"""Measures a whole embedded stack and prints one table; `make bench`, or `python -m tests.bench --data DIR`.

Every ratio compares two figures of this run on this machine. The raw encoder embeds the very chunks that the stack
embeds, in one process, before the stack is up. Questions alternate between the stack and the same handlers called in
one process.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
from confluent_kafka import Producer
from httpx_sse import aconnect_sse

from backbone.settings import WorkerSettings
from headrace.local import stack as local
from headrace.local.artefacts import cache_dir, read_lock
from headrace.local.family import SUPERVISOR
from headrace.local.fetch import fetch_model, place_model
from headrace.local.home import Home
from headrace.local.table import Options
from schemas.events import Chunk, EvidenceRetrieved, QueryAsked
from schemas.ids import new_query_id
from schemas.topics import INGEST
from streams import wiring
from streams.adapters.openvino_encoder import OpenvinoEncoder
from streams.adapters.parse_pool import ParsePool
from streams.chunk.document import Parsed
from streams.errors import Unprocessable
from streams.generate.extractive import Extractive
from streams.runtime.record import Inbound, Origin, Outbound
from tests.doubles.publisher import MemoryPublisher
from tests.stack import Stack, running

ROOT = Path(__file__).parent.parent.parent
TYPES = {".md": "text/markdown", ".html": "text/html", ".txt": "text/plain"}
UNCACHED = {"HEADRACE_VALKEY_URL": ""}
"""The same question is put to the stack and to one process, so neither may remember its vector."""

SLOTS = 4
"""Documents whose chunks the raw encoder is given at once, as the stack's embed stage does."""


def corpus(data: Path, limit: int) -> list[tuple[str, str, str]]:
    """Return (id, content type, text) of the files in a folder."""
    files = sorted(file for file in data.rglob("*") if file.suffix in TYPES)[:limit]
    return [(str(file.relative_to(data)), TYPES[file.suffix], file.read_text(errors="replace")) for file in files]


def spread(seconds: Sequence[float]) -> str:
    """Median, 99th percentile and count, milliseconds."""
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return f"p50 {statistics.median(ordered) * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, n={len(ordered)}"


async def raw_encoder(model_dir: Path, documents: Sequence[tuple[str, str, str]], limit: int) -> tuple[int, float]:
    """Embed chunks of the corpus, at most about `limit`, in this process; returns how many, and in how many seconds."""
    pool = ParsePool(tokenizer_file=model_dir / "tokenizer.json", timeout_s=60, memory_bytes=1024**3)
    encoder = OpenvinoEncoder.load(model_dir)
    cut: list[Parsed] = []
    every = random.Random(1).sample(documents, len(documents))
    for _, kind, text in every:
        if sum(len(found.pieces) for found in cut) >= limit:
            break
        with suppress(Unprocessable):  # the stack refuses it, too
            cut.append(await pool.parse(text, content_type=kind, chunker="structure"))
    chunks = [
        [
            Chunk(
                id="",
                ordinal=0,
                text=found.text[piece.start : piece.end],
                start=piece.start,
                end=piece.end,
                headings=list(piece.headings),
                n_tokens=piece.n_tokens,
                sentences=list(piece.sentences),
            )
            for piece in found.pieces
        ]
        for found in cut
    ]
    await encoder.encode_chunks(chunks[0])
    turns = asyncio.Semaphore(SLOTS)

    async def encode(of_document: list[Chunk]) -> None:
        async with turns:
            await encoder.encode_chunks(of_document)

    begun = time.perf_counter()
    await asyncio.gather(*(encode(of_document) for of_document in chunks))
    seconds = time.perf_counter() - begun
    await encoder.close()
    await pool.close()
    return sum(map(len, chunks)), seconds


def ingest(stack: Stack, documents: Sequence[tuple[str, str, str]]) -> tuple[int, float]:
    """Put the corpus into the ingest topic; returns chunks searchable, and seconds until the last one was."""
    producer = Producer({"bootstrap.servers": stack.kafka, "compression.type": "zstd", "linger.ms": 5})
    begun = time.perf_counter()
    for name, content_type, text in documents:
        value = json.dumps({"text": text, "content_type": content_type, "collection": "bench"}).encode()
        producer.produce(INGEST.name, key=f"acme/{name}", value=value)
        producer.poll(0)
    producer.flush(60)
    query = "SELECT count(*) FILTER (WHERE status IN ('indexed', 'failed')) AS n FROM documents WHERE tenant = 'acme'"
    while stack.sql(query)[0]["n"] < len(documents):
        time.sleep(0.2)
    seconds = time.perf_counter() - begun
    failed = stack.sql("SELECT document, failure_reason FROM documents WHERE status = 'failed'")
    for row in failed:
        print(f"failed: {row['document']}: {row['failure_reason']}")
    return int(stack.sql("SELECT count(*) AS n FROM chunks_g1")[0]["n"]), seconds


def cpu_seconds(stack: Stack) -> dict[str, float]:
    """CPU time that each part has used so far, with the processes it started."""
    used = {}
    for part in local.status(stack.home).parts:
        if part.pid is not None and part.name != SUPERVISOR:
            process = psutil.Process(part.pid)
            times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
            used[part.name] = sum(each.user + each.system for each in times)
    return used


def print_cpu(before: dict[str, float], after: dict[str, float], per: float, unit: str) -> None:
    """Say what each part used between two looks, per unit of work."""
    spent = ", ".join(f"{name} {(after[name] - before[name]) / per * 1000:.1f}" for name in after if name in before)
    print(f"CPU ms per {unit}: {spent}")


async def ask_the_stack(client: httpx.AsyncClient, text: str) -> tuple[float, float, float]:
    """Ask over SSE; returns seconds to the sources, the first token and the whole answer."""
    seen: dict[str, float] = {}
    begun = time.perf_counter()
    accept = {"Accept": "text/event-stream"}
    async with aconnect_sse(client, "POST", "/v1/query", json={"query": text}, headers=accept) as stream:
        async for event in stream.aiter_sse():
            seen.setdefault(event.event, time.perf_counter() - begun)
    return seen["sources"], seen["token"], seen["answer"]


async def ask_in_process(retrieve: Any, text: str) -> tuple[float, float]:
    """The same encode, search and select, called directly; returns seconds to the evidence and to the answer."""
    now = time.time_ns() // 1_000_000
    question = QueryAsked(
        query=new_query_id(),
        tenant="acme",
        text=text,
        kind="answer",
        top_k=8,
        reply_partition=0,
        deadline_ms=now + 30_000,
        asked_ms=now,
        generation="g1",
    )
    origin = Origin(topic="", topic_id="", partition=0, offset=0)
    record = Inbound(key=b"", event=question, raw=b"", origin=origin, timestamp_ms=now)
    begun = time.perf_counter()
    evidence: EvidenceRetrieved | None = None
    async with aclosing(retrieve(record)) as outputs:
        async for output in outputs:
            if isinstance(output, Outbound) and isinstance(output.event, EvidenceRetrieved):
                evidence = output.event
    found = time.perf_counter() - begun
    assert evidence is not None
    async for _ in Extractive()(text, evidence.evidence):
        pass
    return found, time.perf_counter() - begun


async def latencies(stack: Stack, questions: Sequence[str], folder: Path) -> None:
    """Alternate between the stack and one process, and print both."""
    os.environ.update(stack.environment, HEADRACE_LEXICAL_DIR=str(folder / "lexical"), **UNCACHED)
    async with wiring.assembled(WorkerSettings(), MemoryPublisher()) as parts:
        retrieve = wiring.retrieve(parts).handler
        view = asyncio.create_task(parts.searches[0].run())
        await parts.searches[0].ready()
        headers = {"Authorization": "Bearer acme-key"}
        stacked, direct = [], []
        async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as client:
            for text in questions[:10]:
                await ask_the_stack(client, text)
                await ask_in_process(retrieve, text)
            for text in questions:
                stacked.append(await ask_the_stack(client, text))
                direct.append(await ask_in_process(retrieve, text))
        view.cancel()
        await asyncio.gather(view, return_exceptions=True)
    print(f"sources, stack:        {spread([row[0] for row in stacked])}")
    print(f"sources, in process:   {spread([row[0] for row in direct])}")
    print(f"first token, stack:    {spread([row[1] for row in stacked])}")
    print(f"answer, stack:         {spread([row[2] for row in stacked])}")
    print(f"answer, in process:    {spread([row[1] for row in direct])}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "docs", help="folder of .md, .html and .txt files")
    parser.add_argument("--limit", type=int, default=2000, help="most files that are used")
    parser.add_argument("--raw-chunks", type=int, default=2000, help="about how many chunks the raw encoder embeds")
    parser.add_argument("--questions", type=int, default=200)
    arguments = parser.parse_args()
    documents = corpus(arguments.data, arguments.limit)
    folder = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    fetch_model(read_lock().model, cache_dir())
    place_model(read_lock().model, cache_dir(), folder / "model")
    n_raw, raw_s = asyncio.run(raw_encoder(folder / "model", documents, arguments.raw_chunks))
    print(f"corpus:                {len(documents)} documents in {arguments.data.name}/")
    print(f"raw encoder:           {n_raw / raw_s:.1f} chunks/s ({n_raw} chunks, {raw_s:.1f} s)")
    begun = time.perf_counter()
    with running(folder / "home", Options(env=UNCACHED)) as stack:
        print(f"up, fresh home:        {time.perf_counter() - begun:.1f} s")
        before = cpu_seconds(stack)
        n_chunks, seconds = ingest(stack, documents)
        ratio = (n_chunks / seconds) / (n_raw / raw_s)
        print(
            f"Kafka to searchable:   {n_chunks / seconds:.1f} chunks/s ({seconds:.1f} s), {ratio:.2f} x the raw encoder"
        )
        print_cpu(before, cpu_seconds(stack), n_chunks, "chunk")
        headings = [row["text"] for row in stack.sql("SELECT left(text, 80) AS text FROM chunks_g1 ORDER BY chunk_id")]
        questions = [f"What about {' '.join(text.split())}?" for text in headings[: arguments.questions]]
        asyncio.run(latencies(stack, questions, folder))
        for part in local.status(stack.home).parts:
            print(f"RSS {part.name:18} {part.rss_bytes / 1024**2:.0f} MiB")
        local.down(stack.home)
        begun = time.perf_counter()
        local.up(Home(folder / "home"))
        print(f"up, warm:              {time.perf_counter() - begun:.1f} s")


if __name__ == "__main__":
    main()
