"""`headrace up --lexical opensearch`: the part, and what our own processes are told of it."""

import time
from pathlib import Path

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from headrace.cli import app
from headrace.local import stack
from headrace.local.home import Home
from headrace.local.parts import phases, port_names
from headrace.local.table import OPENSEARCH_WORKER, PROCESSES, Options, Row

PORTS = {"kafka": 1, "kafka-controller": 2, "postgres": 3, "valkey": 4, "opensearch": 5, "opensearch-transport": 6}
NO_WORK = Row(name="idle", arguments=("-c", "import time; time.sleep(600)"), port_variable="")


def test_it_is_a_store_of_its_own_that_workers_are_told_of(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    stores, (setup,), processes = phases(home, Options(opensearch=True, processes=(NO_WORK,)), PORTS)

    assert [(part.name, part.port) for part in stores if part.name == "opensearch"] == [("opensearch", 5)]
    assert {part.env["HEADRACE_OPENSEARCH_URL"] for part in (setup, *processes)} == {"http://127.0.0.1:5"}


def test_a_stack_without_it_has_no_port_and_no_address_of_it(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.make()
    ports = {name: port for name, port in PORTS.items() if not name.startswith("opensearch")}

    *_, [process] = phases(home, Options(processes=(NO_WORK,)), ports)

    assert "HEADRACE_OPENSEARCH_URL" not in process.env
    assert [name for name in port_names(Options()) if name.startswith("opensearch")] == []


def test_its_worker_writes_to_it_alone() -> None:
    assert OPENSEARCH_WORKER.arguments == ("-m", "streams", "--stages", "index_opensearch")
    assert OPENSEARCH_WORKER not in PROCESSES


def test_another_word_for_what_searches_is_refused() -> None:
    done = CliRunner().invoke(app, ["up", "--lexical", "lucene"])

    assert done.exit_code == 2
    assert "tantivy" in done.output


@pytest.mark.integration
def test_it_keeps_its_documents_when_it_is_killed(tmp_path: Path) -> None:
    home, options = Home(tmp_path / "home"), Options(opensearch=True, processes=(NO_WORK,))
    stack.up(home, options)
    try:
        url = f"http://127.0.0.1:{stack.port_of(home, 'opensearch')}"
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            client.put("/kept", json={}).raise_for_status()
            for number in range(50):
                client.put(f"/kept/_doc/{number}", json={"number": number}).raise_for_status()
            [process] = [part for part in stack.status(home).parts if part.name == "opensearch"]
            killed(process.pid)
            back(home, process.pid)
            client.post("/kept/_refresh").raise_for_status()
            assert client.get("/kept/_count").json()["count"] == 50
    finally:
        assert stack.down(home) > 0
    assert {part.state for part in stack.status(home).parts} == {"stopped"}


def killed(pid: int | None) -> None:
    assert pid is not None
    psutil.Process(pid).kill()


def back(home: Home, former: int | None) -> None:
    """Wait until the part runs as another process and is ready."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        [part] = [part for part in stack.status(home).parts if part.name == "opensearch"]
        if part.state == "ready" and part.pid not in (None, former):
            return
        time.sleep(0.1)
    pytest.fail("OpenSearch did not come back")
