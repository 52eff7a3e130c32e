"""Fixtures that every test may use: an event loop, a real Kafka, a real Postgres."""

import asyncio
import signal
import subprocess
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.local.artefacts import cache_dir, read_lock
from headrace.local.fetch import class_path, fetch_jars
from headrace.local.files import secret_in
from headrace.local.kafka import kafka_ready, prepare_kafka
from headrace.local.opensearch import opensearch_ready, opensearch_url, prepare_opensearch
from headrace.local.ports import free_ports
from headrace.local.postgres import create_database, postgres_dsn, postgres_ready, prepare_postgres
from headrace.local.valkey import prepare_valkey, valkey_ready, valkey_url
from schemas.postgres.migrate import upgrade
from tests.proxy import Proxy, kafka_listener, proxy

START_S = 90


def pytest_configure() -> None:
    """End on SIGTERM (as `timeout` sends it) as on Ctrl-C, so that the fixtures still end their processes."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def jars() -> str:
    """Class path of Kafka, fetched where the cache does not have it."""
    artefacts, cache = read_lock(), cache_dir()
    fetch_jars(artefacts.jars, cache)
    return class_path(artefacts, cache)


@dataclass(frozen=True, kw_only=True)
class Broker:
    """A real broker. Clients of `proxy_port`, where a proxy to `behind` is to listen, are sent there again."""

    port: int
    behind: int
    proxy_port: int


@pytest.fixture(scope="session")
def kafka_broker(jars: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A real broker that lives as long as the run."""
    folder = tmp_path_factory.mktemp("kafka")
    port, controller_port, behind, proxy_port = free_ports(4)
    more = kafka_listener(port=port, controller_port=controller_port, behind=behind, proxy_port=proxy_port)
    command = prepare_kafka(folder / "home", class_path=jars, port=port, controller_port=controller_port, more=more)
    with _running(command, folder / "kafka.log", lambda: kafka_ready(f"127.0.0.1:{port}")):
        yield Broker(port=port, behind=behind, proxy_port=proxy_port)


@pytest.fixture(scope="session")
def kafka(kafka_broker: Broker) -> str:
    """Bootstrap address of a real broker that lives as long as the run."""
    return f"127.0.0.1:{kafka_broker.port}"


@pytest.fixture
def kafka_proxy(kafka_broker: Broker) -> Iterator[Proxy]:
    """A proxy in front of that broker; who asks it first goes through it for good."""
    with proxy(kafka_broker.behind, kafka_broker.proxy_port) as made:
        yield made


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """A real Postgres that lives as long as the run: name of a database -> its connection string."""
    folder = tmp_path_factory.mktemp("postgres")
    (port,) = free_ports(1)
    password = secret_in(folder / "password")
    command = prepare_postgres(folder / "home", password_file=folder / "password", port=port)
    dsn = postgres_dsn(password, port)
    with _running(command, folder / "postgres.log", lambda: asyncio.run(postgres_ready(dsn))):
        yield lambda database: postgres_dsn(password, port, database)


@pytest.fixture(scope="session")
def postgres(postgres_server: Callable[[str], str]) -> Callable[[], Awaitable[str]]:
    """An async function that makes a fresh, migrated database and returns its connection string."""

    async def fresh() -> str:
        name = f"t{uuid.uuid4().hex}"
        await create_database(postgres_server(name))
        await upgrade(postgres_server(name))
        return postgres_server(name)

    return fresh


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real Valkey that lives as long as the run."""
    folder = tmp_path_factory.mktemp("valkey")
    (port,) = free_ports(1)
    command = prepare_valkey(folder / "home", password_file=folder / "password", port=port)
    url = valkey_url(secret_in(folder / "password"), port)
    with _running(command, folder / "valkey.log", lambda: asyncio.run(valkey_ready(url))):
        yield url


@pytest.fixture(scope="session")
def opensearch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real OpenSearch that lives as long as the run."""
    folder = tmp_path_factory.mktemp("opensearch")
    jars, cache = read_lock().opensearch, cache_dir()
    fetch_jars(jars, cache)
    port, transport_port = free_ports(2)
    command = prepare_opensearch(folder / "home", jars=jars, cache=cache, port=port, transport_port=transport_port)
    url = opensearch_url(port)
    with _running(command, folder / "opensearch.log", lambda: asyncio.run(opensearch_ready(url))):
        yield url


@contextmanager
def _running(command: list[str], log: Path, ready: Callable[[], bool]) -> Iterator[None]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)
    try:
        deadline = time.monotonic() + START_S
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"{command[0]} did not start:\n{log.read_text()[-2000:]}", pytrace=False)
            time.sleep(0.1)
        yield
    finally:
        # Of Postgres' signals the one that does not wait for clients.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
