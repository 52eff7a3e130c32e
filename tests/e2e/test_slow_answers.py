"""Answers that take their time: read on at another gateway after a cut or a death, and cancelled."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from gateway.server import GRACE_S
from headrace.client import Client, Heard
from headrace.local import stack as local
from headrace.local.table import Options
from tests.bench import cancel, resume
from tests.doubles.llm_server import FAULTS
from tests.slow_model import SlowModel, slow, writing
from tests.stack import Stack, running

pytestmark = pytest.mark.timeout(360)

N = 25


@dataclass(frozen=True, kw_only=True)
class Slow:
    """A stack whose answers are written by a slow model."""

    stack: Stack
    model: SlowModel
    acme: Client


@pytest.fixture(scope="module")
def slowly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slow]:
    folder = tmp_path_factory.mktemp("slow")
    # a worker that is killed must be there again, and write, before the deadline: some machines take their time
    patient = {"HEADRACE_QUERY_TIMEOUT_MS": "120000"}
    with writing(slow(), marked=cancel.MODEL) as model, running(folder, Options(env=model.env | patient)) as stack:
        resume.fill(stack)
        with Client(stack.url, "acme-key") as acme:
            yield Slow(stack=stack, model=model, acme=acme)


def test_streams_that_are_cut_anywhere_or_lose_their_gateway_have_the_stored_text(slowly: Slow) -> None:
    with slowly.stack.beside(resume.GATEWAY, slowly.model.env) as beside:
        cut = asyncio.run(resume.cut([beside.url, slowly.stack.url], N, seed=1))
        outlived = asyncio.run(resume.outliving(beside, slowly.stack.url, N))

    assert cut["cuts"] >= N
    for counts in (cut, outlived):
        assert counts["one end"] == counts["text as stored, to the byte"] == counts["streams"] == N
        assert counts["one answer, the stored one"] == N
        assert counts["resets"] == 0


def test_streams_of_a_gateway_that_is_told_to_stop_go_on_at_the_other(slowly: Slow) -> None:
    def resumed() -> float:
        route = "/v1/queries/{id}/events"
        return slowly.stack.metric("gateway", "headrace_http_requests_total", route=route, status="200")

    before = resumed()
    with slowly.stack.beside(resume.GATEWAY, slowly.model.env) as beside:
        counts = asyncio.run(resume.outliving(beside, slowly.stack.url, N, signal.SIGTERM))
        code = beside.process.wait(GRACE_S + 2)

    assert counts["one end"] == counts["text as stored, to the byte"] == counts["streams"] == N
    assert counts["one answer, the stored one"] == N
    assert counts["resets"] == 0
    assert code == 0, beside.last_words()
    until(lambda: resumed() == before + N, "not each stream went on at the other gateway")


def test_a_cancel_stops_the_model_and_keeps_what_was_read(slowly: Slow) -> None:
    found = asyncio.run(cancel.under_load(slowly.stack.url, slowly.model, 4, 1, seed=1))

    assert {each.outcome for each in found} == {"cancelled"}
    for each in found:
        assert each.heard
        assert each.stored == each.heard == each.told
        assert each.model_s < 2


@contextmanager
def stopped(stack: Stack, part: str) -> Iterator[None]:
    """Hold a part still while the block runs."""
    pid = local.pid_of(stack.home, part)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_question_that_is_cancelled_before_a_worker_has_it_is_never_written(slowly: Slow) -> None:
    with stopped(slowly.stack, "worker-query"), ThreadPoolExecutor() as threads:
        accepted, heard = threading.Event(), Heard()

        def read() -> None:
            for event in slowly.acme.query_stream(f"{resume.QUESTION} ask1001x"):
                heard.hear(event)
                accepted.set()

        reading: Future[None] = threads.submit(read)
        assert accepted.wait(20)
        assert heard.query is not None
        cancelled = slowly.acme.cancel(heard.query)
        reading.result(20)

    assert (heard.end, heard.text) == ("cancelled", "")
    assert (cancelled["state"], cancelled["outcome"], cancelled["attempt"]) == ("finished", "cancelled", 0)
    # the worker has passed the cancelled question when it answers a later one
    assert list(slowly.acme.query_stream(resume.QUESTION))[-1].event == "done"
    assert not slowly.model.stopped("ask1001x").done()
    assert slowly.acme.question(heard.query)["outcome"] == "cancelled"


def test_a_cancel_after_the_end_changes_nothing(slowly: Slow) -> None:
    answer = slowly.acme.query(resume.QUESTION)
    before = slowly.acme.question(answer["id"])

    after = slowly.acme.cancel(answer["id"])

    assert after["outcome"] == "done"
    assert after == before == slowly.acme.question(answer["id"])


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def test_a_model_that_fails_shows_as_an_open_breaker_until_it_writes_again(slowly: Slow) -> None:
    def breaker() -> float:
        return slowly.stack.metric("worker-query", "headrace_model_breaker_open", endpoint="openai")

    def ask() -> None:
        assert slowly.acme.query(resume.QUESTION)["answer"]

    well, slowly.model.behave = slowly.model.behave, lambda _: FAULTS["500"]
    try:
        for _ in range(12):
            ask()
        assert breaker() == 1
    finally:
        slowly.model.behave = well

    def closed() -> bool:
        ask()
        return breaker() == 0

    until(closed, "the breaker stays open")


def test_an_answer_whose_worker_is_killed_is_taken_over_and_shows_as_that(slowly: Slow) -> None:
    def swept() -> float:
        return slowly.stack.metric("gateway", "headrace_questions_swept_total", what="taken_over")

    pid, heard, before = local.pid_of(slowly.stack.home, "worker-query"), Heard(), swept()
    assert pid is not None

    for event in slowly.acme.query_stream(f"{resume.QUESTION} ask1002x"):
        heard.hear(event)
        if event.event == "token" and pid is not None:
            # a worker that is there again once the lease is over finds the question by itself
            with stopped(slowly.stack, "supervisor"):
                os.kill(pid, signal.SIGKILL)
                until(lambda: swept() == before + 1, "the sweeper does not have it taken over")
            pid = None

    assert (heard.end, heard.text) == ("done", slowly.acme.question(str(heard.query))["answer"])
    assert slowly.acme.question(str(heard.query))["attempt"] == 2
    until(
        lambda: slowly.stack.metric("worker-query", "headrace_claims_total", how="taken_over") == 1,
        "no claim counts as taken over",
    )


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_a_stock_client_hears_the_same_events_in_the_same_order(slowly: Slow) -> None:
    command = [
        "curl",
        "-sS",
        "-N",
        "-X",
        "POST",
        f"{slowly.stack.url}/v1/query",
        "-H",
        "Authorization: Bearer acme-key",
    ]
    body = ["-H", "Content-Type: application/json", "-d", json.dumps({"query": resume.QUESTION, "stream": True})]
    text = subprocess.run([*command, *body], capture_output=True, text=True, timeout=30, check=True).stdout
    stock = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]

    ours = [event.event for event in slowly.acme.query_stream(resume.QUESTION)]

    def order(names: list[str]) -> list[str]:
        """The names, tokens that follow one another once: how many there are is a matter of time."""
        return [name for n, name in enumerate(names) if n == 0 or name != names[n - 1]]

    assert order(stock) == order(ours)
    assert order(ours)[:4] == ["accepted", "sources", "token", "answer"]
    assert ours[-1] == "done"
