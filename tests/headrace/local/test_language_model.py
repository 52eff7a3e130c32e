"""`headrace up --llm`: the part that runs a language model, and what our own processes are told of it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from headrace.cli.stack import app
from headrace.local import language_model, stack
from headrace.local.artefacts import cache_dir, read_lock
from headrace.local.fetch import fetch_model, place_model
from headrace.local.home import Home
from headrace.local.parts import phases, port_names
from headrace.local.ports import free_ports
from headrace.local.table import Options, Row

DUMMY = str(Path(__file__).with_name("dummy_part.py"))
PORTS = {"kafka": 1, "kafka-controller": 2, "postgres": 3, "valkey": 4, "llm": 5, "gateway": 6}
PROCESSES = (Row(name="gateway", arguments=("-m", "gateway")), Row(name="worker", arguments=(), port_variable=""))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.make()
    return home


def test_with_a_language_model_there_is_one_part_more_and_our_processes_know_where_it_is(home: Home) -> None:
    options = Options(llm=True, processes=PROCESSES)

    model, *processes = phases(home, options, PORTS)[-1]

    assert port_names(options) == list(PORTS)
    assert (model.name, model.port) == ("llm", 5)
    key = (home.secrets / "llm").read_text()
    assert model.env["HEADRACE_LLM_API_KEY"] == key
    assert not any(key in word for word in model.command())
    for process in processes:
        assert process.env["HEADRACE_LLM_BASE_URL"] == "http://127.0.0.1:5/v1"
        assert process.env["HEADRACE_LLM_MODEL"] == "SmolLM2-135M-Instruct"
        assert process.env["HEADRACE_LLM_API_KEY"] == key


def test_without_one_nobody_is_told_of_any(home: Home) -> None:
    parts = [part for phase in phases(home, Options(processes=PROCESSES), PORTS) for part in phase]

    assert "llm" not in [part.name for part in parts]
    assert not any("HEADRACE_LLM_BASE_URL" in part.env for part in parts if "HEADRACE_LLM_BASE_URL" not in os.environ)


def test_a_context_that_was_set_is_kept(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> str:
        return phases(home, Options(llm=True, processes=PROCESSES), PORTS)[-1][1].env["HEADRACE_LLM_CONTEXT_TOKENS"]

    monkeypatch.delenv("HEADRACE_LLM_CONTEXT_TOKENS", raising=False)
    assert told() == "256"
    monkeypatch.setenv("HEADRACE_LLM_CONTEXT_TOKENS", "1024")
    assert told() == "1024"


def test_a_running_stack_without_a_model_says_that_it_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    home = Home(tmp_path / "home")
    row = Row(name="gateway", arguments=(DUMMY,), port_variable="DUMMY_PORT")
    stack.up(home, Options(stores=False, processes=(row,)))
    try:
        done = CliRunner().invoke(app, ["up", "--llm"])
    finally:
        stack.down(home)

    assert done.exit_code == 1
    assert "headrace down first" in done.output


def test_without_the_server_it_says_what_to_install(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])

    with pytest.raises(stack.StackError, match="make llm"):
        stack.up(home, Options(llm=True))


@pytest.mark.integration
@pytest.mark.skipif(not language_model.is_installed(), reason="xllamacpp is an extra: make llm installs it")
def test_the_server_answers_with_its_key_alone_and_stops_at_once(home: Home) -> None:
    model = read_lock().language_model
    fetch_model(model, cache_dir())
    place_model(model, cache_dir(), home.models / model.name)
    [port] = free_ports(1)
    settings = language_model.language_model_settings(home, model, port)
    command = [
        sys.executable,
        "-m",
        "headrace.local.language_model",
        str(language_model.weights(home, model)),
        str(port),
    ]
    process = subprocess.Popen(command, env=dict(os.environ) | settings)
    try:
        url, key = settings["HEADRACE_LLM_BASE_URL"], settings["HEADRACE_LLM_API_KEY"]
        with httpx.Client(timeout=60, trust_env=False) as client:
            _await_health(client, f"http://127.0.0.1:{port}/health", process)
            refused = client.get(f"{url}/models", headers={"Authorization": "Bearer other"})
            body = {"model": model.name, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
            said = client.post(f"{url}/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"})
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(30)

    assert refused.status_code == 401
    assert json.loads(said.content)["usage"]["completion_tokens"] == 3
    assert str(home.path) not in said.text
    assert code == 0


def _await_health(client: httpx.Client, url: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < end:
        try:
            if client.get(url).status_code == 200:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"the server does not answer (exit code {process.poll()})")
