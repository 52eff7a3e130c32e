"""What the replay worker keeps running, and how it takes its time."""

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from backbone.settings import WorkerSettings
from backbone.telemetry import serve_worker_endpoint
from streams.adapters.paced_encoder import PacedEncoder
from streams.ports import Generation
from streams.replay import Replays, Work, encoder_threads, stand_back, wanted
from tests.contract.test_encoder import chunk
from tests.doubles.catalogue import MemoryCatalogue
from tests.doubles.encoder import HashingEncoder


def generation(name: str, chunker: str, state: str = "following") -> Generation:
    return Generation(name=name, chunker=chunker, embedder="test", dim=4, state=state)


async def test_what_does_not_answer_is_followed_and_chunked_only_where_nobody_else_does() -> None:
    rows = [
        generation("g1", "structure"),
        generation("g2", "structure"),
        generation("g3", "tokens"),
        generation("g4", "tokens", "paused"),
    ]

    assert await wanted(MemoryCatalogue(rows=rows, answers="g1")) == {
        Work(generation="g2", stages=("embed", "index")),
        Work(generation="g3", stages=("chunk", "embed", "index")),
    }


async def test_opensearch_is_written_by_a_process_of_its_own() -> None:
    rows = [
        replace(generation("g1", "structure"), lexical="opensearch"),
        replace(generation("g2", "structure"), vectors="opensearch"),
        replace(generation("g3", "structure", "paused"), lexical="opensearch"),
    ]

    assert await wanted(MemoryCatalogue(rows=rows, answers="g1")) == {
        Work(generation="g2", stages=("embed", "index")),
        Work(generation="g2", stages=("index_opensearch",)),
    }


async def test_a_process_is_kept_until_its_generation_is_gone(tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(
        "import http.server, os, sys, time\n"
        f"open(r'{tmp_path}/' + os.environ['HEADRACE_GENERATION'], 'a').write(f'{{os.getpid()}} {{os.nice(0)}}\\n')\n"
        "class Page(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200)\n"
        "        self.end_headers()\n"
        "        self.wfile.write(b'# TYPE headrace_chunks_encoded_total counter\\n')\n"
        "        self.wfile.write(b'headrace_chunks_encoded_total 7\\n')\n"
        "http.server.HTTPServer(('127.0.0.1', int(os.environ['HEADRACE_METRICS_PORT'])), Page).serve_forever()\n"
    )
    catalogue = MemoryCatalogue(rows=[generation("g1", "structure"), generation("g2", "tokens")], answers="g1")
    replays = Replays(
        catalogue=catalogue, settings=WorkerSettings(replay_nice=7), program=(sys.executable, str(script))
    )
    running = asyncio.create_task(replays.run())
    log = tmp_path / "g2"

    async def lines(n: int) -> list[str]:
        async with asyncio.timeout(30):
            while not log.exists() or len(log.read_text().splitlines()) < n:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return log.read_text().splitlines()

    try:
        [first] = await lines(1)
        pid, nice = first.split()
        assert int(nice) >= 7
        (Path("/proc") / pid).stat()
        async with (
            serve_worker_endpoint(0, dict, dict, replays.metrics) as port,
            httpx.AsyncClient(timeout=60) as client,
        ):

            async def page() -> list[str]:
                return (await client.get(f"http://127.0.0.1:{port}/metrics")).text.splitlines()

            async with asyncio.timeout(30):
                while 'headrace_chunks_encoded_total{generation="g2"} 7.0' not in await page():  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            shown = await page()
        assert 'headrace_replay_running{generation="g2"} 1.0' in shown
        assert shown.count("# TYPE headrace_chunks_encoded_total counter") == 1
        kill = await asyncio.create_subprocess_exec("kill", "-9", pid)
        await kill.wait()
        [_, second] = await lines(2)
        catalogue.rows.pop()
        async with asyncio.timeout(30):
            while (Path("/proc") / second.split()[0]).exists():  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert list(await replays.metrics()) == []
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


PARENT = """
import asyncio, sys
from backbone.settings import WorkerSettings
from streams.ports import Generation
from streams.replay import Replays
from tests.doubles.catalogue import MemoryCatalogue
from tests.streams.test_replay import generation

rows = [generation("g1", "structure"), generation("g2", "tokens")]
replays = Replays(
    catalogue=MemoryCatalogue(rows=rows, answers="g1"), settings=WorkerSettings(), program=(sys.executable, sys.argv[1])
)
asyncio.run(replays.run())
"""
CHILD = """
import os, signal, sys, time
from streams.__main__ import end_with_parent

signal.signal(signal.SIGTERM, lambda *_: (print("told", flush=True), os._exit(0)))
end_with_parent()
print(os.getpid(), flush=True)
time.sleep(60)
"""


def test_a_process_ends_as_on_sigterm_when_its_parent_was_killed(tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(CHILD)
    where = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, str(child)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": where},
    ) as parent:
        assert parent.stdout is not None
        said = (line for line in parent.stdout if "[" not in line)
        pid = int(next(said))
        os.kill(pid, 0)
        parent.kill()

        # the end of what both write to: the child is gone, too
        assert list(said) == ["told\n"]


async def test_a_paced_encoder_takes_its_time_and_gives_the_same_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    plain = HashingEncoder(dim=8)
    chunks = [chunk(f"text {n}", sentences=((0, 4),)) for n in range(70)]
    paced = PacedEncoder(encoder=plain, chunks_per_s=10, on_paced=waited.append)
    monkeypatch.setattr("streams.adapters.paced_encoder.asyncio.sleep", sleep)

    encoded = await paced.encode_chunks(chunks)

    assert np.array_equal(encoded.chunks, (await plain.encode_chunks(chunks)).chunks)
    assert len(encoded.sentences) == 70
    assert waited == slept == pytest.approx([0.0, 3.2, 6.4], abs=0.5)


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_a_replay_leaves_cores_to_live_work(cores: int, threads: int) -> None:
    assert encoder_threads(cores) == threads


AUTOGROUP = Path("/proc/self/autogroup")


def sessions_are_grouped() -> bool:
    """The file is there and empty where processes are in no such group, as in some containers."""
    return AUTOGROUP.exists() and bool(AUTOGROUP.read_text().strip())


@pytest.mark.skipif(not sessions_are_grouped(), reason="this Linux does not group processes by session")
def test_a_session_of_its_own_stands_back_and_one_that_others_share_does_not() -> None:
    program = "from streams.replay import stand_back; stand_back(7); print(open('/proc/self/autogroup').read())"

    def nice_of(*, alone: bool) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, start_new_session=alone
        )
        return done.stdout.split()[-1]

    before = AUTOGROUP.read_text().split()[-1]
    assert nice_of(alone=True) == "7"
    assert nice_of(alone=False) == before
    if os.getsid(0) != os.getpid():
        stand_back(5)
        assert AUTOGROUP.read_text().split()[-1] == before
