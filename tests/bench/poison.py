"""What poison costs its neighbours: every hundredth record is one that no stage can handle, or none is, in turns.

`python -m tests.bench.poison` sends documents and questions at a steady rate, and prints how long the good ones take.
Poison documents are no JSON (given up by intake) or files that are not what they say (given up by chunk); poison
questions are no questions (given up by retrieve).
"""

import argparse
import asyncio
import base64
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from confluent_kafka import Producer

from headrace.client import AsyncClient
from schemas.ids import new_query_id
from schemas.topics import INGEST, QUERIES
from tests.stack import Stack, running

EVERY = 100
TURNS = ("clean", "poisoned") * 3
_SEARCHABLE = """
SELECT extract(epoch FROM indexed_at)::float8 AS at FROM live WHERE tenant = 'acme' AND document LIKE $1 || '/%'
ORDER BY document
"""
_NO_PDF = json.dumps(
    {"content": base64.b64encode(b"no PDF" * 100).decode(), "content_type": "application/pdf"}
).encode()


@dataclass
class Times:
    """Of good records: seconds until a document could be found, and until the first token of an answer."""

    searchable: list[float] = field(default_factory=list)
    first_token: list[float] = field(default_factory=list)
    n_poison: int = 0


@dataclass(kw_only=True)
class Sender:
    """One turn at a steady rate.

    Attributes:
        stack: takes the load.
        turn: names its documents.
        every: which records are poison, each one of so many; None: none.
        times: takes what is measured.
    """

    stack: Stack
    turn: str
    every: int | None
    times: Times
    _producer: Producer = field(init=False)

    def __post_init__(self) -> None:
        self._producer = Producer({"bootstrap.servers": self.stack.kafka, "linger.ms": 0})

    async def run(self, seconds: float, documents_per_s: float, questions_per_s: float) -> None:
        """Send, and wait until the last good one is done."""
        end = time.monotonic() + seconds
        sent, _ = await asyncio.gather(self._documents(end, documents_per_s), self._questions(end, questions_per_s))
        assert await asyncio.to_thread(self._producer.flush, 60) == 0
        until = time.monotonic() + 120
        while len(rows := await asyncio.to_thread(self.stack.sql, _SEARCHABLE, self.turn)) < len(sent):
            assert time.monotonic() < until, f"{len(rows)} of {len(sent)} good documents are searchable"
            await asyncio.sleep(0.5)
        self.times.searchable += [row["at"] - at for row, at in zip(rows, sent, strict=True)]

    async def _documents(self, end: float, per_s: float) -> list[float]:
        sent: list[float] = []
        for n, poison in self._paced():
            if time.monotonic() >= end:
                return sent
            if poison:
                value = b"{no JSON" if self.times.n_poison % 2 else _NO_PDF
                self._send(INGEST.name, f"acme/poison/{self.turn}/{n}", value)
            else:
                text = f"The heron of weir {n} in turn {self.turn} stands at gauge {n % 97} and waits for the tide."
                sent.append(time.time())
                self._send(INGEST.name, f"acme/{self.turn}/{n:06}", json.dumps({"text": text}).encode())
            await asyncio.sleep(1 / per_s)
        return sent

    async def _questions(self, end: float, per_s: float) -> None:
        async with AsyncClient(self.stack.url, "acme-key") as client, asyncio.TaskGroup() as tasks:
            for n, poison in self._paced():
                if time.monotonic() >= end:
                    return
                if poison:
                    self._send(QUERIES.name, new_query_id(), b'{"text": ')
                else:
                    tasks.create_task(self._ask(client, f"Where does the heron of weir {n} stand?"))
                await asyncio.sleep(1 / per_s)

    async def _ask(self, client: AsyncClient, text: str) -> None:
        began, first = time.monotonic(), None
        async for event in client.query_stream(text):
            if event.event == "token" and first is None:
                first = time.monotonic() - began
            assert event.event not in ("error", "cancelled"), event
        if first is not None:
            self.times.first_token.append(first)

    def _paced(self) -> Iterator[tuple[int, bool]]:
        return ((n, self.every is not None and n % self.every == self.every // 2) for n in itertools.count())

    def _send(self, topic: str, key: str, value: bytes) -> None:
        self.times.n_poison += "poison" in key or topic == QUERIES.name
        self._producer.produce(topic, key=key, value=value)
        self._producer.poll(0)


def measure(stack: Stack, *, seconds: float, documents_per_s: float, questions_per_s: float, every: int) -> list[Times]:
    """Return what good records took without and with poison, taken in turns so that both see the same machine."""
    found = {"clean": Times(), "poisoned": Times()}
    warm = Sender(stack=stack, turn="warm", every=None, times=Times())
    asyncio.run(warm.run(5, documents_per_s, questions_per_s))
    for number, kind in enumerate(TURNS):
        sender = Sender(stack=stack, turn=f"t{number}", every=every if kind == "poisoned" else None, times=found[kind])
        asyncio.run(sender.run(seconds / len(TURNS), documents_per_s, questions_per_s))
    return [found["clean"], found["poisoned"]]


def quantiles(values: list[float]) -> tuple[float, float]:
    """Return p50 and p99, milliseconds."""
    return statistics.median(values) * 1000, statistics.quantiles(values, n=100)[98] * 1000


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180, help="of load, both kinds together")
    parser.add_argument("--documents", type=float, default=10, help="per second")
    parser.add_argument("--questions", type=float, default=2, help="per second")
    parser.add_argument("--every", type=int, default=EVERY, help="one record in so many is poison")
    given = parser.parse_args()
    with running(Path(tempfile.mkdtemp(prefix="headrace-poison-")) / "home") as stack:
        clean, poisoned = measure(
            stack,
            seconds=given.seconds,
            documents_per_s=given.documents,
            questions_per_s=given.questions,
            every=given.every,
        )
        stages = stack.sql("SELECT stage, count(*) AS n FROM dead_letters GROUP BY stage ORDER BY stage")
    letters = ", ".join(f"{row['stage']} {row['n']}" for row in stages)
    print(f"poison sent: {poisoned.n_poison}; dead letters: {letters}")
    print(f"{'':<14}{'n':>6}{'p50 ms':>9}{'p99 ms':>9}")
    for name in ("searchable", "first_token"):
        (p50, p99), (p50_poison, p99_poison) = quantiles(getattr(clean, name)), quantiles(getattr(poisoned, name))
        print(f"{name:<14}{len(getattr(clean, name)):>6}{p50:>9.0f}{p99:>9.0f}  without")
        print(f"{'':<14}{len(getattr(poisoned, name)):>6}{p50_poison:>9.0f}{p99_poison:>9.0f}  with")
        print(f"{'':<14}{'ratio':>6}{p50_poison / p50:>9.2f}{p99_poison / p99:>9.2f}")


if __name__ == "__main__":
    main()
