"""The same parts in containers, of the images that docker-compose.yml names, where a Docker engine answers."""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from docker.errors import DockerException, ImageNotFound
from testcontainers.core.container import DockerContainer
from testcontainers.core.docker_client import DockerClient

from headrace.local import kafka
from headrace.local.artefacts import read_lock
from headrace.local.kafka import kafka_ready
from headrace.local.opensearch import SETTINGS, opensearch_ready, opensearch_url
from headrace.local.ports import free_ports
from headrace.local.postgres import postgres_dsn, postgres_ready
from headrace.local.valkey import valkey_ready, valkey_url
from tests.parts import Broker, Running, await_ready
from tests.proxy import kafka_listener

HERE: Final = ("localhost", "127.0.0.1", "::1")
COMPOSE: Final = Path(__file__).parents[2] / "docker-compose.yml"


class Unobtainable(Exception):
    """The engine can neither find nor fetch an image."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A container as the engine is asked for it.

    Attributes:
        image: with its version.
        ports: of 127.0.0.1, by port inside.
        shared_memory: as Docker writes sizes.
    """

    image: str
    ports: Mapping[int, int]
    environment: Mapping[str, str] = field(default_factory=dict)
    command: Sequence[str] = ()
    shared_memory: str = "64m"


def images() -> dict[str, str]:
    """Return the image of each part: those of the compose file, and OpenSearch as old as the embedded one."""
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    [version] = {jar.version for jar in read_lock().opensearch if jar.artifact == "opensearch"}
    found = {part: str(services[part]["image"]) for part in ("kafka", "postgres", "valkey")}
    return found | {"opensearch": f"opensearchproject/opensearch:{version}"}


def why_not() -> str | None:
    """Say why no container can be run; None: an engine answers, and its ports are this machine's."""
    try:
        client = DockerClient()
        client.client.ping()
    except (DockerException, OSError) as error:
        return f"no Docker engine answers: {error}"
    if client.host() not in HERE:
        return f"the Docker engine publishes ports on {client.host()}; expected one of this machine"
    return None


def pull() -> None:
    """Fetch the images that the engine lacks.

    Raises:
        Unobtainable: one of them.
    """
    held = DockerClient().client.images
    for image in images().values():
        try:
            with suppress(ImageNotFound):
                held.get(image)
                continue
            held.pull(image)
        except (DockerException, OSError) as error:
            raise Unobtainable(f"{image} cannot be had: {error}") from error


@dataclass(frozen=True, kw_only=True)
class ContainerParts:
    """`Parts` of an engine on this machine, to which the images are known."""

    @contextmanager
    def kafka(self) -> Iterator[Broker]:
        """See `Parts.kafka`."""
        port, behind, proxy_port = free_ports(3)
        asked = kafka_asked(port=port, behind=behind, proxy_port=proxy_port)
        with running(asked, lambda: kafka_ready(f"127.0.0.1:{port}")):
            yield Broker(port=port, behind=behind, proxy_port=proxy_port)

    @contextmanager
    def postgres(self) -> Iterator[Running[Callable[[str], str]]]:
        """See `Parts.postgres`."""
        (port,), password = free_ports(1), secrets.token_urlsafe(24)
        dsn = postgres_dsn(password, port)
        asked = postgres_asked(port=port, password=password)
        with running(asked, lambda: asyncio.run(postgres_ready(dsn))) as restart:
            yield Running(where=lambda database: postgres_dsn(password, port, database), restart=restart)

    @contextmanager
    def valkey(self) -> Iterator[str]:
        """See `Parts.valkey`."""
        (port,), password = free_ports(1), secrets.token_urlsafe(24)
        url = valkey_url(password, port)
        with running(valkey_asked(port=port, password=password), lambda: asyncio.run(valkey_ready(url))):
            yield url

    @contextmanager
    def opensearch(self) -> Iterator[Running[str]]:
        """See `Parts.opensearch`."""
        (port,) = free_ports(1)
        url = opensearch_url(port)
        with running(opensearch_asked(port=port), lambda: asyncio.run(opensearch_ready(url))) as restart:
            yield Running(where=url, restart=restart)


def kafka_asked(*, port: int, behind: int, proxy_port: int, controller_port: int = 9093) -> Asked:
    """Ask for a broker with the settings of the embedded one.

    It listens on the ports at which it is published, because it sends clients, itself among them, to 127.0.0.1.
    """
    template = Path(kafka.__file__).with_name("kafka.properties").read_text()
    lines = template.format(folder="/var/lib/kafka", port=port, controller_port=controller_port).splitlines()
    settings = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    settings |= kafka_listener(port=port, controller_port=controller_port, behind=behind, proxy_port=proxy_port)
    opened = [each if each.startswith("CONTROLLER") else _anywhere(each) for each in settings["listeners"].split(",")]
    settings["listeners"] = ",".join(opened)
    del settings["metadata.log.dir"]
    environment = {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in settings.items()}
    return Asked(
        image=images()["kafka"],
        ports={port: port, behind: behind},
        environment=environment | {"KAFKA_HEAP_OPTS": "-Xms64m -Xmx256m"},
    )


def postgres_asked(*, port: int, password: str) -> Asked:
    """Ask for a server that sorts by code points, as the embedded one."""
    return Asked(
        image=images()["postgres"],
        ports={5432: port},
        environment={"POSTGRES_PASSWORD": password, "POSTGRES_INITDB_ARGS": "--locale=C --encoding=UTF8"},
        command=["postgres", "-c", "shared_buffers=64MB", "-c", "max_connections=100"],
        # a vector index that is built by several processes lies there
        shared_memory="512m",
    )


def valkey_asked(*, port: int, password: str) -> Asked:
    """Ask for a server that holds only what may be lost."""
    options = {"requirepass": password, "save": "", "appendonly": "no", "maxmemory": "64mb"}
    options |= {"maxmemory-policy": "allkeys-lru"}
    command = ["valkey-server", *(word for name, value in options.items() for word in (f"--{name}", value))]
    return Asked(image=images()["valkey"], ports={6379: port}, command=command)


def opensearch_asked(*, port: int) -> Asked:
    """Ask for a node without the security plug-in, as the embedded one."""
    kept = ("discovery.type", "action.auto_create_index", "cluster.routing.allocation.disk.threshold_enabled")
    switched_off = {"DISABLE_SECURITY_PLUGIN": "true", "DISABLE_INSTALL_DEMO_CONFIG": "true"}
    return Asked(
        image=images()["opensearch"],
        ports={9200: port},
        environment={name: SETTINGS[name] for name in kept}
        | switched_off
        | {"OPENSEARCH_JAVA_OPTS": "-Xms512m -Xmx512m"},
    )


def _anywhere(listener: str) -> str:
    return listener.replace("127.0.0.1", "")


@contextmanager
def running(asked: Asked, ready: Callable[[], bool]) -> Iterator[Callable[[], None]]:
    """Run a container while the block runs; the library's reaper removes it where this process dies.

    Gives what kills and starts it again.

    Raises:
        DidNotStart: it ended, or was not ready in time.
    """
    container = DockerContainer(asked.image, env=dict(asked.environment))
    if asked.command:
        container.with_command(list(asked.command))
    container.with_kwargs(shm_size=asked.shared_memory)
    # with_bind_ports would publish them to other machines, too
    published: dict[str, Any] = {f"{inside}/tcp": ("127.0.0.1", port) for inside, port in asked.ports.items()}
    container.ports |= published

    def alive() -> bool:
        container.reload()
        return container.status in ("created", "running")

    def log() -> str:
        return b"".join(container.get_logs()).decode(errors="replace")

    def wait() -> None:
        await_ready(asked.image, ready, alive=alive, log=log)

    def restart() -> None:
        container.get_wrapped_container().kill()
        container.get_wrapped_container().start()
        wait()

    with container:
        wait()
        yield restart
