"""Which parts tests run on, what an engine is asked for, and what a run without an engine says."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from testcontainers.core.config import testcontainers_config

from tests.parts import DidNotStart, chosen
from tests.parts.containers import (
    Asked,
    Unobtainable,
    images,
    kafka_asked,
    opensearch_asked,
    postgres_asked,
    pull,
    running,
    valkey_asked,
    why_not,
)
from tests.parts.engine import Engine, engine
from tests.parts.reporting import NOT_RUN_STATUS

ROOT = Path(__file__).parents[2]
NOBODY = "tcp://127.0.0.1:1"


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """An engine that runs nothing, and no reaper, which is a container."""
    monkeypatch.setattr(testcontainers_config, "_ryuk_disabled", True)
    with engine() as made:
        monkeypatch.setenv("DOCKER_HOST", made.address)
        yield made


def test_the_embedded_parts_are_the_default() -> None:
    assert chosen({}) == "embedded"
    assert chosen({"HEADRACE_TEST_PARTS": "containers"}) == "containers"


def test_a_wrong_choice_says_what_there_is() -> None:
    with pytest.raises(ValueError, match="HEADRACE_TEST_PARTS is 'docker'; expected embedded or containers"):
        chosen({"HEADRACE_TEST_PARTS": "docker"})


def test_images_are_those_of_the_compose_file_and_have_versions() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    found = images()

    assert set(found) == {"kafka", "postgres", "valkey", "opensearch"}
    assert all(f"image: {found[part]}\n" in compose for part in ("kafka", "postgres", "valkey"))
    assert found["opensearch"] == "opensearchproject/opensearch:2.19.6"
    assert all(":" in image and not image.endswith(":latest") for image in found.values())


def test_kafka_sends_its_clients_to_the_ports_at_which_it_is_published() -> None:
    asked = kafka_asked(port=4001, behind=4002, proxy_port=4003)

    assert asked.ports == {4001: 4001, 4002: 4002}
    assert asked.environment["KAFKA_LISTENERS"] == "PLAINTEXT://:4001,CONTROLLER://127.0.0.1:9093,PROXIED://:4002"
    assert asked.environment["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://127.0.0.1:4001,PROXIED://127.0.0.1:4003"
    assert asked.environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert asked.environment["KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS"] == "8"
    assert asked.environment["KAFKA_LOG_DIRS"] == "/var/lib/kafka/data"


def test_stores_want_a_password_and_opensearch_makes_no_index_by_itself() -> None:
    assert postgres_asked(port=4001, password="p").environment["POSTGRES_PASSWORD"] == "p"
    assert valkey_asked(port=4001, password="p").command[:3] == ["valkey-server", "--requirepass", "p"]
    asked = opensearch_asked(port=4001)
    assert asked.environment["discovery.type"] == "single-node"
    assert asked.environment["action.auto_create_index"] == "false"
    assert asked.ports == {9200: 4001}


def test_a_container_is_published_on_this_machine_alone_and_removed_with_its_data(docker: Engine) -> None:
    docker.held.add("some:1")
    asked = Asked(image="some:1", ports={5432: 4001}, environment={"A": "b"}, command=["run", ""], shared_memory="1m")

    with running(asked, lambda: True) as restart:
        restart()
        assert docker.done == [f"POST /containers/…/{what}" for what in ("start", "kill", "start")]

    [body] = docker.created
    assert (body["Image"], body["Env"], body["Cmd"]) == ("some:1", ["A=b"], ["run", ""])
    assert body["HostConfig"]["PortBindings"] == {"5432/tcp": [{"HostIp": "127.0.0.1", "HostPort": "4001"}]}
    assert body["HostConfig"]["ShmSize"] == 1024 * 1024
    [removed] = docker.done[3:]
    assert removed.startswith("DELETE /containers/…?")
    assert {"v=True", "force=True"} <= {*removed.split("?")[1].split("&")}


def test_a_container_that_ends_is_an_error_with_its_log(docker: Engine) -> None:
    docker.held.add("some:1")
    docker.state = "exited"

    with (
        pytest.raises(DidNotStart, match="some:1 did not start:\noops"),
        running(Asked(image="some:1", ports={}), bool),
    ):
        pytest.fail("it was not ready")

    assert docker.done[-1].startswith("DELETE /containers/…?")


def test_images_that_the_engine_lacks_are_fetched(docker: Engine) -> None:
    docker.held |= {images()["kafka"], images()["valkey"]}
    docker.obtainable |= {images()["postgres"], images()["opensearch"]}

    assert why_not() is None
    pull()
    assert docker.held == {*images().values()}


def test_an_image_that_cannot_be_had_is_named(docker: Engine) -> None:
    with pytest.raises(Unobtainable, match=r"apache/kafka.* cannot be had: .*pull access denied"):
        pull()


def test_no_engine_or_one_elsewhere_is_a_reason(docker: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testcontainers_config, "tc_host_override", "build.example.org")
    assert why_not() == "the Docker engine publishes ports on build.example.org; expected one of this machine"
    monkeypatch.setenv("DOCKER_HOST", NOBODY)
    reason = why_not()
    assert reason is not None
    assert reason.startswith("no Docker engine answers: ")


def run(test: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", test]
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(command, cwd=ROOT, env=env | environment, capture_output=True, text=True, check=False)


def test_a_run_that_lacks_its_containers_passes_nothing_and_fails() -> None:
    done = run("tests/contract/test_cache.py", HEADRACE_TEST_PARTS="containers", DOCKER_HOST=NOBODY)

    assert done.returncode == NOT_RUN_STATUS, done.stdout
    assert "parts: containers (not run on containers: no Docker engine answers" in done.stdout
    assert "3 passed, 3 skipped" in done.stdout
    assert "NOT RUN: 3 tests asked for containers (HEADRACE_TEST_PARTS=containers)" in done.stdout
