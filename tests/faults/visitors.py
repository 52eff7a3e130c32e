"""Visitors who submit and ask while a part is away, slow or full, and what must hold of them afterwards."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import httpx

from backbone.kafka import Admin
from backbone.settings import KafkaSettings
from headrace.client import Client, HeadraceError, Refused
from headrace.local import stack as local
from tests.faults.gauges import GROUPS
from tests.stack import Stack

PAUSE_S = 0.5
OURS = ("gateway", "worker-ingest", "worker-query", "worker-score")


@dataclass(kw_only=True)
class Visitors:
    """Submit a document and ask a question again and again, each only once: who is refused does not come again.

    Attributes:
        heard: how submissions were answered, and how questions ended.
        accepted: documents that the gateway has accepted.
        longest_s: the longest time until the gateway said anything at all.
    """

    url: str
    heard: Counter[str] = field(default_factory=Counter)
    accepted: list[str] = field(default_factory=list)
    longest_s: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)

    def submit(self) -> None:
        with self._client() as http:
            for n in range(10_000):
                if self.over.wait(PAUSE_S):
                    return
                document = {"id": f"d{n}", "text": f"The stork number{n} stands at weir {n}."}
                began = time.monotonic()
                with self._answering("document"):
                    response = http.post("/v1/ingest", json={"documents": [document]})
                    self.heard[f"document {response.status_code}"] += 1
                    if response.status_code == 202:
                        self.accepted.append(f"d{n}")
                self.longest_s = max(self.longest_s, time.monotonic() - began)

    def ask(self) -> None:
        with Client(self.url, "acme-key", patience_s=120) as client:
            while not self.over.wait(PAUSE_S):
                self._ask(client)

    def _ask(self, client: Client) -> None:
        ends = []
        try:
            for event in client.query_stream("Where does the stork stand?"):
                if event.event in ("done", "error", "cancelled"):
                    ends.append(event.event)
        except Refused as error:
            self.heard[f"question {error.status}"] += 1
            return
        except HeadraceError as error:
            self.heard[f"question {type(error).__name__}"] += 1
            return
        self.heard[f"question {' '.join(ends)}"] += 1

    @contextmanager
    def _answering(self, what: str) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPError as error:
            self.heard[f"{what} {type(error).__name__}"] += 1

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": "Bearer acme-key"}, timeout=60)


@contextmanager
def visited(stack: Stack) -> Iterator[Visitors]:
    """Let visitors come while the block runs; at its end those who were accepted have heard their end."""
    visitors = Visitors(url=stack.url)
    threads = [threading.Thread(target=each) for each in (visitors.submit, visitors.ask)]
    for thread in threads:
        thread.start()
    try:
        yield visitors
    finally:
        visitors.over.set()
        for thread in threads:
            thread.join(180)
            assert not thread.is_alive(), "somebody still waits for an answer"


def judge(stack: Stack, visitors: Visitors, restarts: dict[str, int]) -> None:
    """Everything accepted is searchable, every question ended once, nothing was given up, nobody restarted."""
    print(dict(visitors.heard), f"longest answer {visitors.longest_s:.1f} s")
    began = time.monotonic()
    with Client(stack.url, "acme-key", patience_s=120) as client:
        waiting = [(document, None) for document in visitors.accepted]
        while waiting:
            found = client.lookup(waiting[:400])
            statuses = Counter(each["status"] for each in found)
            assert not statuses["failed"], [each for each in found if each["status"] == "failed"][:2]
            waiting = [each for each, shown in zip(waiting, found, strict=False) if shown["status"] != "indexed"]
            assert time.monotonic() < began + 120, f"not indexed: {waiting[:5]}"
            time.sleep(0.1)
        print(f"all {len(visitors.accepted)} documents searchable {time.monotonic() - began:.1f} s after the load")
        assert client.query("Where does the stork stand?")["answer"]
    assert stack.sql("SELECT stage, reason, message FROM dead_letters") == []
    assert stack.sql("SELECT 1 FROM queries WHERE state IN ('pending', 'claimed')") == []
    assert restarts_of(stack) == restarts
    assert asyncio.run(lag(stack)) == 0
    questions = [name for name in visitors.heard if name.startswith("question")]
    assert set(questions) <= {"question done", "question error", "question 503", "question 429"}, questions


def restarts_of(stack: Stack) -> dict[str, int]:
    """How often each of our own processes was started again."""
    return {part.name: part.restarts for part in local.status(stack.home).parts if part.name in OURS}


async def lag(stack: Stack, within_s: float = 30) -> int:
    """Records that wait for any stage, once there are none or the time is over."""
    admin, end = Admin(KafkaSettings(kafka_bootstrap=stack.kafka)), time.monotonic() + within_s
    while True:
        found = [await admin.group_lag(group, [topic.name for topic in topics]) for group, topics in GROUPS.items()]
        n = sum(sum(each.values()) for each in found)
        if n == 0 or time.monotonic() > end:
            return n
        await asyncio.sleep(0.5)
