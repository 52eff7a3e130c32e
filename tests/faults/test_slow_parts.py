"""Parts that are slow, silent, cut off or full, while documents are submitted and questions asked."""

import asyncio
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import httpx
import pytest

from headrace.local.home import Home
from headrace.local.table import Options
from tests.doubles.llm_server import Behaviour
from tests.e2e.api import Api
from tests.faults.visitors import Visitors, judge, restarts_of, visited
from tests.proxied import Proxied, running_proxied
from tests.slow_model import writing
from tests.stack import Stack, running

pytestmark = [pytest.mark.faults]

FIRST_TOKEN_S = 4.0
"""Longest wait for a model's first word, over all links."""
AFTER_S = 5.0
BUSY_S = 6.0
"""What all the rest of a question may take on a busy machine."""
ANSWERED_S = 15.0
"""Longest time until the gateway says anything; it waits for 8 s at most itself."""
BREAKER_S = 60.0
"""Within this time a model that is well again is asked again."""
WELL = Behaviour(pieces=("The stork stands ", "at the weir. ", "[1]"))
ENV = {"HEADRACE_LLM_FIRST_TOKEN_TIMEOUT_MS": str(round(FIRST_TOKEN_S * 1000)), "HEADRACE_QUESTIONS_MIN": "256"}


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    """A stack behind proxies, whose answers a model writes that is well, and which holds one document."""
    with writing(WELL) as model:
        port = urlsplit(model.url).port
        assert port is not None
        with running_proxied(tmp_path_factory.mktemp("slow") / "home", Options(env=ENV), llm_port=port) as proxied:
            Api.connect(proxied.stack.url, "acme-key").put({"id": "stork", "text": "The stork stands at the weir."})
            assert ask(proxied).by == "openai"
            assert all(between.n_bytes > 0 for between in proxied.proxies.values())
            yield proxied


@dataclass(frozen=True)
class Answered:
    """Which link answered a question, and after how long."""

    by: str
    after_s: float


def ask(proxied: Proxied) -> Answered:
    began = time.monotonic()
    answer = Api.connect(proxied.stack.url, "acme-key").query("Where does the stork stand?")
    return Answered(answer["provider"], time.monotonic() - began)


def went_through(stack: Stack, disturbing: Callable[[], None]) -> Visitors:
    """Let visitors come while something happens and a while after; judge what has become of them."""
    restarts = restarts_of(stack)
    with visited(stack) as visitors:
        disturbing()
        time.sleep(AFTER_S)
    judge(stack, visitors, restarts)
    assert visitors.heard["document 202"] >= 3
    assert visitors.heard["question done"] >= 3
    return visitors


def for_a_while(slowed: AbstractContextManager[None], seconds: float) -> None:
    with slowed:
        time.sleep(seconds)


def again_and_again(cut: Callable[[], int], times: int) -> None:
    n_cut = 0
    for _ in range(times):
        time.sleep(1)
        n_cut += cut()
    assert n_cut >= times


def test_a_model_that_is_silent_costs_a_few_questions_its_time_and_the_others_nothing(proxied: Proxied) -> None:
    found: list[Answered] = []

    def silence() -> None:
        with proxied.proxies["llm"].frozen():
            found.extend(ask(proxied) for _ in range(5))

    visitors = went_through(proxied.stack, silence)
    print(found)

    assert [each.by for each in found] == ["extractive"] * 5
    assert max(each.after_s for each in found) < FIRST_TOKEN_S + BUSY_S
    # the breaker is open by then
    assert found[-1].after_s < FIRST_TOKEN_S / 2
    assert visitors.heard["question error"] == 0
    deadline = time.monotonic() + BREAKER_S
    while ask(proxied).by != "openai":
        assert time.monotonic() < deadline, "the model is not asked again"


def test_a_postgres_that_is_200_ms_away_costs_nothing_but_time(proxied: Proxied) -> None:
    visitors = went_through(proxied.stack, lambda: for_a_while(proxied.proxies["postgres"].slow(round_trip_s=0.2), 8))

    assert set(visitors.heard) <= {"document 202", "question done"}


@pytest.mark.long
@pytest.mark.parametrize("part", ["postgres", "kafka"])
@pytest.mark.timeout(300)
def test_a_part_whose_connections_break_every_second_costs_nothing_but_time(proxied: Proxied, part: str) -> None:
    went_through(proxied.stack, lambda: again_and_again(proxied.proxies[part].cut, 20))


@pytest.mark.long
@pytest.mark.parametrize("part", ["postgres", "kafka"])
@pytest.mark.timeout(300)
def test_a_part_that_is_silent_for_half_a_minute_costs_nothing_but_time(proxied: Proxied, part: str) -> None:
    visitors = went_through(proxied.stack, lambda: for_a_while(proxied.proxies[part].frozen(), 30))

    assert visitors.longest_s < ANSWERED_S


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_kafka_that_is_200_ms_away_costs_nothing_but_time(proxied: Proxied) -> None:
    went_through(proxied.stack, lambda: for_a_while(proxied.proxies["kafka"].slow(round_trip_s=0.2), 20))


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_valkey_that_is_slow_is_done_without(proxied: Proxied) -> None:
    visitors = went_through(proxied.stack, lambda: for_a_while(proxied.proxies["valkey"].slow(round_trip_s=0.6), 15))

    assert set(visitors.heard) <= {"document 202", "question done"}


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_postgres_without_a_free_connection_is_waited_for(proxied: Proxied) -> None:
    visitors = went_through(proxied.stack, lambda: taken(proxied, 20))

    assert visitors.longest_s < ANSWERED_S


def taken(proxied: Proxied, seconds: float) -> None:
    """Hold all connections that Postgres lends, those of the stack's own processes too."""

    async def take() -> None:
        held, end = [], time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                try:
                    held.append(await asyncpg.connect(proxied.stack.environment["HEADRACE_POSTGRES_DSN"]))
                except asyncpg.TooManyConnectionsError:
                    proxied.proxies["postgres"].cut()
                    await asyncio.sleep(0.02)
        finally:
            for each in held:
                each.terminate()
        assert len(held) > 80

    asyncio.run(take())


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_full_object_store_is_waited_for(proxied: Proxied) -> None:
    folder = proxied.stack.home.data("objects")
    kept = folder.with_name("objects-kept")
    shutil.copytree(folder, kept)
    with small_disk(folder, 64):
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        ready = {}

        def look() -> None:
            ready.update(httpx.get(f"{proxied.stack.url}/ready", timeout=60).json())

        went_through(proxied.stack, lambda: filled(folder / "ballast", 20, look))
        assert (ready["ready"], ready["parts"]["objects"]["ok"]) == (True, False)
        shutil.copytree(folder, kept, dirs_exist_ok=True)
    shutil.copytree(kept, folder, dirs_exist_ok=True)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_full_postgres_is_waited_for_longer_than_anything_is_retried(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    home.data("postgres").mkdir(mode=0o700)
    with (
        small_disk(home.data("postgres"), 400),
        running(home.path, Options(env={"HEADRACE_RETRY_MAX_MS": "5000"})) as stack,
    ):
        went_through(stack, lambda: filled(home.data("postgres") / "ballast", 30))
        log = home.log("worker-ingest").read_text()
    assert '"part_is_away"' in log
    assert "could not extend file" in log


def filled(ballast: Path, seconds: float, look: Callable[[], None] = lambda: None) -> None:
    """Leave no room on the disk for a while, and look round meanwhile."""
    with ballast.open("wb", buffering=0) as file:
        with pytest.raises(OSError, match="No space left"):
            while True:
                file.write(bytes(1024 * 1024))
        look()
        time.sleep(seconds)
    ballast.unlink()


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[None]:
    """Put a small empty disk over a folder while the block runs."""
    options = f"size={size_mib}m,mode=700"
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)
