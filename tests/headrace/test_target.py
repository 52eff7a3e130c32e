from pathlib import Path

import pytest

from headrace.target import Target, find_target


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HEADRACE_URL", "HEADRACE_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    (tmp_path / "state.json").write_text('{"ports": {"kafka": 40001, "gateway": 40002}}')
    (tmp_path / "api-keys.json").write_text('{"local-key": {"tenant": "demo", "groups": []}, "second": {}}')
    return tmp_path


def test_the_embedded_stack_is_found_by_its_state_and_its_first_key() -> None:
    assert find_target() == Target(urls=("http://127.0.0.1:40002",), api_key="local-key")


def test_the_environment_comes_before_the_embedded_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_URL", "https://headrace.example/")
    monkeypatch.setenv("HEADRACE_API_KEY", "theirs")

    assert find_target() == Target(urls=("https://headrace.example",), api_key="theirs")


def test_arguments_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_URL", "https://headrace.example")

    assert find_target("http://here", "mine") == Target(urls=("http://here",), api_key="mine")


def test_the_local_key_is_never_sent_elsewhere() -> None:
    assert find_target("https://headrace.example") == Target(urls=("https://headrace.example",), api_key=None)


def test_several_gateways_are_named_with_commas() -> None:
    found = find_target("http://one:1/, http://two:2", "mine")

    assert found == Target(urls=("http://one:1", "http://two:2"), api_key="mine")
    assert found.url == "http://one:1"


def test_a_damaged_state_file_is_no_reason_to_fail(home: Path) -> None:
    (home / "state.json").write_text("{")

    assert find_target().url == "http://127.0.0.1:8080"
