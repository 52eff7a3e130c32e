"""How long a verification takes, and how much memory: `python -m tests.bench.verify --chunks 20000`.

Vectors are random, so that filling the stack is quick; their number and size are real. First the stack is clean, then
drift is planted, found and mended.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from headrace.client import Client
from headrace.local import stack as local
from headrace.local.table import PROCESSES, Options, Row
from headrace.operations import Operations
from schemas.topics import INGEST
from tests.stack import Stack, running

PER_DOCUMENT = 40
N_DRIFTED = 50
"""Documents that get each kind of drift."""
CHEAP = tuple(
    Row(name=row.name, arguments=("-m", "tests.bench.cheap_worker", *row.arguments[2:]))
    if row.name == "worker-ingest"
    else row
    for row in PROCESSES
)
ENV = {"HEADRACE_OVERDUE_INTERVAL_MS": "86400000"}
"""Nothing but the verification looks."""
SOME = "document IN (SELECT document FROM live ORDER BY md5(document) OFFSET {at} LIMIT {n})"
PLANTED = (
    f"DELETE FROM chunks_g1 WHERE ordinal = 3 AND {SOME}",
    f"UPDATE chunks_g1 SET text = 'altered' WHERE ordinal = 5 AND {SOME}",
    f"UPDATE chunks_g1 SET sentence_vectors = '' WHERE ordinal = 7 AND {SOME}",
    f"UPDATE chunks_g1 SET acl = '{{{{nobody}}}}' WHERE {SOME}",
    f"DELETE FROM live WHERE {SOME}",
)


def document(number: int) -> str:
    """A document of `PER_DOCUMENT` chunks, a heading each."""
    parts = (
        f"# Part {part} of weir {number}\n\n"
        f"The heron of weir {number} stands at gauge {part} and waits for the tide of day {number * part}. "
        f"When the water of channel {part} falls below mark {number % 97}, it walks to the gate and fishes there. "
        f"Nobody at station {number} has seen it take more than {part % 7 + 1} eels before noon."
        for part in range(PER_DOCUMENT)
    )
    return "\n\n".join(parts)


def fill(stack: Stack, n_documents: int) -> tuple[int, float]:
    """Put documents into the ingest topic; returns chunks searchable, and seconds until the last one was."""
    producer = Producer({"bootstrap.servers": stack.kafka, "compression.type": "zstd", "linger.ms": 5})
    begun = time.perf_counter()
    for number in range(n_documents):
        value = json.dumps({"text": document(number), "content_type": "text/markdown"}).encode()
        producer.produce(INGEST.name, key=f"acme/weir/{number}", value=value)
        producer.poll(0)
    producer.flush(60)
    settled = "SELECT count(*) AS n FROM documents WHERE status IN ('indexed', 'failed')"
    while stack.sql(settled)[0]["n"] < n_documents:
        time.sleep(0.5)
    seconds = time.perf_counter() - begun
    stack.sql("UPDATE documents SET accepted_at = accepted_at - interval '1 hour'")
    return int(stack.sql("SELECT count(*) AS n FROM chunks_g1")[0]["n"]), seconds


def memory_mib(stack: Stack, part: str) -> tuple[float, float]:
    """Memory of a part's process, MiB: now, and the most it has had."""
    [pid] = [each.pid for each in local.status(stack.home).parts if each.name == part]
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    now, most = (float(lines[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return now, most


def verify(stack: Stack, what: str, *, repair: bool = False) -> dict[str, Any]:
    """Verify once, and print time and memory."""
    parts = ("worker-score", "worker-query")
    before = {part: memory_mib(stack, part)[0] for part in parts}
    begun = time.perf_counter()
    with Client(stack.url, "operator-key") as client:
        operations = Operations(client=client)
        found = operations.verify(repair=repair)
        while found["state"] in ("asked", "running"):
            time.sleep(0.1)
            found = operations.verification(found["id"])
    seconds = time.perf_counter() - begun
    told = found["progress"]
    print(f"{what}: {found['state']} in {seconds:.1f} s: {told}", flush=True)
    for part in parts:
        now, most = memory_mib(stack, part)
        print(f"    {part}: {before[part]:.0f} MiB before, {now:.0f} MiB after, at most {most:.0f} MiB", flush=True)
    return dict(told)


def main() -> None:
    """Fill, verify, plant, repair, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=20_000)
    n_documents = parser.parse_args().chunks // PER_DOCUMENT
    folder = Path(tempfile.mkdtemp(prefix="headrace-verify-"))
    with running(folder / "home", Options(processes=CHEAP, env=ENV)) as stack:
        n_chunks, seconds = fill(stack, n_documents)
        print(f"{n_documents} documents, {n_chunks} chunks with random vectors, filled in {seconds:.0f} s", flush=True)
        verify(stack, "clean")
        verify(stack, "clean, again")
        for place, statement in enumerate(PLANTED):
            stack.sql(statement.format(at=place * N_DRIFTED, n=N_DRIFTED))
        begun = time.perf_counter()
        verify(stack, "drifted, with --repair", repair=True)
        while verify(stack, "after the repair")["n_differences"]:
            time.sleep(1)
        print(f"mended {time.perf_counter() - begun:.1f} s after the repair began")


if __name__ == "__main__":
    main()
