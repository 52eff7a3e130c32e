"""Fixtures that every test may use: an event loop, real parts, a fresh database."""

import os
import signal
import uuid
from collections.abc import Awaitable, Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from headrace.local.postgres import create_database
from schemas.postgres.migrate import upgrade
from tests.parts import Broker, Parts, Running, chosen
from tests.parts.embedded import EmbeddedParts
from tests.parts.reporting import Reporting
from tests.proxy import Proxy, proxy


def pytest_configure(config: pytest.Config) -> None:
    """End on SIGTERM (as `timeout` sends it) as on Ctrl-C, so that the fixtures still end their processes."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if "CI" not in os.environ:  # where hypothesis has a profile of its own
        settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("busy machine")
    try:
        kind = chosen(os.environ)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    config.pluginmanager.register(Reporting(kind=kind), "parts")


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def parts(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """How to run the parts that were asked for; without them, tests are skipped and the run fails."""
    reporting = pytestconfig.pluginmanager.get_plugin("parts")
    assert isinstance(reporting, Reporting)
    if reporting.kind == "embedded":
        return EmbeddedParts(folder=tmp_path_factory.mktemp)
    reporting.skip_without_engine()
    from tests.parts.containers import ContainerParts

    return ContainerParts()


@pytest.fixture(scope="session")
def kafka_broker(parts: Parts) -> Iterator[Broker]:
    """A real broker that lives as long as the run."""
    with parts.kafka() as broker:
        yield broker


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
def postgres_process(parts: Parts) -> Iterator[Running[Callable[[str], str]]]:
    """A real Postgres that lives as long as the run, and can be killed and started again."""
    with parts.postgres() as running:
        yield running


@pytest.fixture(scope="session")
def postgres_server(postgres_process: Running[Callable[[str], str]]) -> Callable[[str], str]:
    """Of that Postgres: name of a database -> its connection string."""
    return postgres_process.where


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
def valkey(parts: Parts) -> Iterator[str]:
    """URL of a real Valkey that lives as long as the run."""
    with parts.valkey() as url:
        yield url


@pytest.fixture(scope="session")
def opensearch_process(parts: Parts) -> Iterator[Running[str]]:
    """A real OpenSearch that lives as long as the run, and can be killed and started again."""
    with parts.opensearch() as running:
        yield running


@pytest.fixture(scope="session")
def opensearch(opensearch_process: Running[str]) -> str:
    """URL of that OpenSearch."""
    return opensearch_process.where
