"""A part is away for a while, down or frozen, while documents are submitted and questions asked."""

import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest

from headrace.client import Client, HeadraceError, Refused
from headrace.local import stack as local
from headrace.local.table import Backoff, Options
from tests.stack import Stack, running

pytestmark = [pytest.mark.faults]

SHORT_S = 10.0
LONG_S = 60.0
FROZEN_S = 30.0
PAUSE_S = 0.5
AFTER_S = 15.0
"""Longest time that a submission may take once the part is back, beside its own."""
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


@contextmanager
def frozen(stack: Stack, part: str) -> Iterator[None]:
    """Stop all processes of a part while the block runs, without ending them."""
    pid = local.pid_of(stack.home, part)
    assert pid is not None
    first = psutil.Process(pid)
    stopped = [first, *first.children(recursive=True)]
    try:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
        yield
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


def kill(stack: Stack, part: str) -> None:
    """End a part at once; it stays away for as long as the stack's backoff says."""
    pid = local.pid_of(stack.home, part)
    assert pid is not None
    psutil.Process(pid).send_signal(signal.SIGKILL)


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
    assert {name: part.restarts for name, part in parts(stack).items()} == restarts
    questions = [name for name in visitors.heard if name.startswith("question")]
    assert set(questions) <= {"question done", "question error", "question 503", "question 429"}, questions


def parts(stack: Stack) -> dict[str, local.PartStatus]:
    return {part.name: part for part in local.status(stack.home).parts if part.name in OURS}


def went_through(stack: Stack, part: str, how: str, away_s: float) -> None:
    restarts = {name: each.restarts for name, each in parts(stack).items()}
    with visited(stack) as visitors:
        time.sleep(4)
        if how == "frozen":
            with frozen(stack, part):
                time.sleep(away_s)
        else:
            kill(stack, part)
            time.sleep(away_s)
        time.sleep(AFTER_S)
    judge(stack, visitors, restarts)
    # beside what was refused meanwhile
    assert visitors.heard["document 202"] >= 3
    assert visitors.heard["question done"] >= 3


@pytest.fixture
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    """A stack whose parts stay away for so long when they are killed."""
    with running(tmp_path / "home", Options(backoff=Backoff(first_s=request.param, max_s=request.param))) as stack:
        yield stack


@pytest.mark.timeout(300)
@pytest.mark.parametrize("stack", [SHORT_S], indirect=True)
def test_postgres_down_for_ten_seconds_costs_nothing_but_time(stack: Stack) -> None:
    went_through(stack, "postgres", "down", SHORT_S)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stack", [LONG_S], indirect=True)
@pytest.mark.parametrize("part", ["postgres", "kafka", "valkey"])
def test_a_minute_without_a_part(stack: Stack, part: str) -> None:
    went_through(stack, part, "down", LONG_S)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("stack", [LONG_S], indirect=True)
@pytest.mark.parametrize("part", ["postgres", "kafka", "valkey"])
def test_half_a_minute_with_a_frozen_part(stack: Stack, part: str) -> None:
    went_through(stack, part, "frozen", FROZEN_S)
