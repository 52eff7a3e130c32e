"""A stack of tiny parts: started, killed at every place, taken over, stopped."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from headrace.local import stack
from headrace.local.family import members
from headrace.local.home import Home
from headrace.local.ports import keep_ports
from headrace.local.record import read_record
from headrace.local.table import Backoff, Options, Row

DUMMY = str(Path(__file__).with_name("dummy_part.py"))
BACKOFF = Backoff(first_s=0.02, max_s=0.1, start_attempts=3)
WAIT_S = 20


def row(name: str, *arguments: str) -> Row:
    return Row(name=name, arguments=(DUMMY, *arguments), port_variable="DUMMY_PORT", grace_s=5)


def options(*rows: Row) -> Options:
    return Options(stores=False, processes=rows, backoff=BACKOFF)


TWO = options(row("one"), row("two", "child"))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    yield home
    stack.down(home, timeout_s=10)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def pid_of(home: Home, part: str) -> int:
    pid = stack.pid_of(home, part)
    assert pid is not None
    return pid


def states(home: Home) -> dict[str, str]:
    return {part.name: part.state for part in stack.status(home).parts}


def test_up_waits_until_every_part_answers_and_down_leaves_nothing(home: Home) -> None:
    assert stack.up(home, TWO)
    assert states(home) == {"one": "ready", "two": "ready", "supervisor": "ready"}
    assert stack.status(home).ready
    assert len(members(home.path)) == 4

    assert stack.down(home) == 4
    assert members(home.path) == []
    assert not stack.status(home).ready
    assert stack.down(home) == 0


def test_a_second_up_finds_the_running_stack(home: Home) -> None:
    stack.up(home, TWO)
    before = pid_of(home, "supervisor"), pid_of(home, "one")

    assert not stack.up(home, TWO)
    assert (pid_of(home, "supervisor"), pid_of(home, "one")) == before


def test_a_killed_part_comes_back_on_its_port_without_the_processes_it_left(home: Home) -> None:
    stack.up(home, TWO)
    killed, port = pid_of(home, "two"), stack.port_of(home, "two")
    (child,) = psutil.Process(killed).children()

    os.kill(killed, signal.SIGKILL)

    def came_back() -> bool:
        two = next(part for part in stack.status(home).parts if part.name == "two")
        return (two.state, two.restarts, two.port) == ("ready", 1, port) and two.pid != killed

    until(came_back)
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_after_kill_9_of_the_supervisor_up_takes_over(home: Home) -> None:
    stack.up(home, TWO)
    killed, part = pid_of(home, "supervisor"), psutil.Process(pid_of(home, "one"))

    os.kill(killed, signal.SIGKILL)
    until(lambda: not stack.is_running(home))
    assert stack.status(home).state == "orphaned"
    assert states(home) == {"one": "orphaned", "two": "orphaned"}

    assert stack.up(home, TWO)
    assert stack.status(home).ready
    assert not part.is_running() or part.status() == psutil.STATUS_ZOMBIE
    assert len(members(home.path)) == 4


def test_after_kill_9_of_the_supervisor_down_ends_its_parts(home: Home) -> None:
    stack.up(home, TWO)
    os.kill(pid_of(home, "supervisor"), signal.SIGKILL)
    until(lambda: not stack.is_running(home))

    assert stack.down(home) == 3
    assert members(home.path) == []
    assert stack.status(home).state == "stopped"


def test_a_part_that_cannot_start_says_why_and_stops_the_rest(home: Home) -> None:
    with pytest.raises(stack.StackError, match=r"two did not start: it ended 3 times(.|\n)*the dam is dry") as caught:
        stack.up(home, options(row("one"), row("two", "crash")))

    assert "Traceback" not in str(caught.value)
    assert members(home.path) == []
    assert stack.status(home).state == "failed"


@pytest.mark.parametrize(("part", "cure"), [("one", "remove .*state.json"), ("gateway", "run headrace up --port")])
def test_a_taken_port_is_named_and_nothing_is_started(home: Home, part: str, cure: str) -> None:
    home.make()
    port = keep_ports(home.ports, [part])[part]
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(stack.StackError, match=f"^port {port} of {part} is taken by .*; end that program, or {cure}"),
    ):
        stack.up(home, options(row(part)))
    assert members(home.path) == []


def test_two_stacks_do_not_know_each_other(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    stack.up(home, options(row("one")))
    try:
        stack.up(other, options(row("one")))
        stack.down(other)
        assert stack.status(home).ready
    finally:
        stack.down(other)


def test_stacks_that_start_at_the_same_time_have_ports_of_their_own(tmp_path: Path) -> None:
    homes = [Home(tmp_path / str(n)) for n in range(3)]
    gateway = options(row("gateway"))
    try:
        with ThreadPoolExecutor() as pool:
            assert list(pool.map(lambda home: stack.up(home, gateway), homes)) == [True, True, True]
        assert len({stack.port_of(home, "gateway") for home in homes}) == 3
    finally:
        for home in homes:
            stack.down(home)


def test_folders_and_files_are_closed_to_others(home: Home) -> None:
    stack.up(home, options(row("one")))

    assert {path.stat().st_mode & 0o777 for path in (home.path, home.logs, home.secrets)} == {0o700}
    assert home.run.stat().st_mode & 0o777 == 0o600
    record = read_record(home.run)
    assert record is not None
    assert record.state == "ready"
