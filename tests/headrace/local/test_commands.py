"""`headrace up | down | status | logs` as a user or a script sees them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.cli.stack import app
from headrace.local import stack
from headrace.local.home import Home
from headrace.local.table import Options, Row

DUMMY = str(Path(__file__).with_name("dummy_part.py"))
OPTIONS = Options(stores=False, processes=(Row(name="one", arguments=(DUMMY,), port_variable="DUMMY_PORT"),))
GATEWAY = Options(stores=False, processes=(Row(name="gateway", arguments=(DUMMY,), port_variable="DUMMY_PORT"),))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    home = Home(tmp_path / "home")
    yield home
    stack.down(home)


def test_without_a_stack_status_fails_and_down_does_not(home: Home) -> None:
    status, down = CliRunner().invoke(app, ["status"]), CliRunner().invoke(app, ["down"])

    assert (status.exit_code, down.exit_code) == (1, 0)
    assert "Start it with: headrace up" in status.output
    assert "was not running" in down.output


def test_status_of_a_running_stack_for_people_and_for_scripts(home: Home) -> None:
    stack.up(home, OPTIONS)

    people, scripts = CliRunner().invoke(app, ["status"]), CliRunner().invoke(app, ["status", "--json"])

    assert (people.exit_code, scripts.exit_code) == (0, 0)
    found = json.loads(scripts.output)
    assert (found["state"], found["ready"]) == ("ready", True)
    assert [(part["name"], part["state"]) for part in found["parts"]] == [("one", "ready"), ("supervisor", "ready")]
    assert all(part["rss_bytes"] > 1_000_000 for part in found["parts"])


def test_a_part_that_comes_back_is_named_in_the_first_line() -> None:
    kafka = stack.PartStatus(name="kafka", state="starting", pid=1, port=2, rss_bytes=3, restarts=1, uptime_s=2.0)
    found = stack.Status(state="ready", home="home", parts=[kafka])

    assert not found.ready
    assert found.condition == "not ready: kafka is starting"


def test_logs_of_one_part_of_all_and_of_none(home: Home) -> None:
    stack.up(home, OPTIONS)

    one, all_of_them, none = (CliRunner().invoke(app, ["logs", *part]) for part in (["one"], [], ["nix"]))

    assert one.output == "dummy: serving\n"
    assert "one | dummy: serving\n" in all_of_them.output
    assert none.exit_code == 2
    assert "there is no log of 'nix'" in none.output


def test_an_unwritable_home_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "file" / "home"))

    done = CliRunner().invoke(app, ["up"])

    assert done.exit_code == 1
    assert done.output.startswith("error: ")


def test_a_running_stack_is_not_moved_to_another_port(home: Home) -> None:
    stack.up(home, GATEWAY)

    done = CliRunner().invoke(app, ["up", "--port", "1"])

    assert done.exit_code == 1
    assert "runs already" in done.output
    assert "for port 1 run headrace down first" in done.output
