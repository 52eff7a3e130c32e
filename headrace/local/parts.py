"""The parts of a stack as the supervisor runs them: command, environment, probe, and how to stop."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial

import httpx
import msgspec

from headrace.local.artefacts import cache_dir, read_lock
from headrace.local.family import marks
from headrace.local.fetch import class_path
from headrace.local.files import secret_in, write_private
from headrace.local.home import Home
from headrace.local.kafka import Membership, cluster_id, kafka_ready, prepare_kafka
from headrace.local.language_model import PART, language_model_settings, weights
from headrace.local.opensearch import PART as OPENSEARCH
from headrace.local.opensearch import opensearch_ready, opensearch_url, prepare_opensearch
from headrace.local.postgres import postgres_dsn, postgres_ready, prepare_postgres
from headrace.local.table import Options, Row
from headrace.local.valkey import prepare_valkey, valkey_ready, valkey_url

DATABASE = "headrace"
KAFKA = "kafka"
PROBE_S = 2.0
STOP_SIGNALS = {"postgres": signal.SIGINT}
"""Parts that stop by another signal than SIGTERM: Postgres would wait for its clients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One supervised process.

    Attributes:
        command: makes what the process needs and returns its command line; runs in a thread, before every start.
        env: its whole environment.
        ready: says whether it can be used.
        once: it does one job and exits; ready when it has exited with 0.
        grace_s: how long after the stop signal it may take before SIGKILL.
    """

    name: str
    command: Callable[[], list[str]]
    env: Mapping[str, str]
    ready: Callable[[], Awaitable[bool]]
    port: int | None = None
    once: bool = False
    grace_s: float = 20.0
    stop_signal: signal.Signals = field(default=signal.SIGTERM)


def port_names(options: Options) -> list[str]:
    """Return the names of the ports that a stack needs."""
    brokers = [port for name in broker_names(options) for port in (name, _controller(name))]
    search = [OPENSEARCH, _transport(OPENSEARCH)] if options.opensearch else []
    stores = [*brokers, "postgres", "valkey", *search] if options.stores else []
    models = [PART] if options.llm else []
    return stores + models + [row.name for row in options.processes if row.port_variable]


def broker_names(options: Options) -> list[str]:
    """Return the names of the brokers; the first one is `kafka`."""
    return [KAFKA, *(f"{KAFKA}-{node}" for node in range(2, options.brokers + 1))]


def _controller(broker: str) -> str:
    return f"{broker}-controller"


def _transport(part: str) -> str:
    return f"{part}-transport"


def phases(home: Home, options: Options, ports: Mapping[str, int]) -> list[list[Part]]:
    """Return the parts in the order of starting; those of one phase start together."""
    own = settings(home, ports) if options.stores else {}
    if options.brokers >= 3:
        own["HEADRACE_KAFKA_REPLICATION_FACTOR"] = "3"
    models = []
    if options.llm:
        found = language_model_settings(home, read_lock().language_model, ports[PART])
        models = [_language_model(home, ports[PART], found)]
        own |= found
    own |= options.env
    processes = models + [_process(home, row, ports, own) for row in options.processes]
    return [_stores(home, options, ports), [_setup(home, options, own)], processes] if options.stores else [processes]


def settings(home: Home, ports: Mapping[str, int]) -> dict[str, str]:
    """Return the settings of our own processes, as environment variables."""
    password = secret_in(home.secrets / "postgres")
    brokers = [name for name in ports if _controller(name) in ports]
    search = {"HEADRACE_OPENSEARCH_URL": opensearch_url(ports[OPENSEARCH])} if OPENSEARCH in ports else {}
    return search | {
        "HEADRACE_KAFKA_BOOTSTRAP": ",".join(f"127.0.0.1:{ports[name]}" for name in brokers),
        "HEADRACE_POSTGRES_DSN": postgres_dsn(password, ports["postgres"], DATABASE),
        "HEADRACE_VALKEY_URL": valkey_url(secret_in(home.secrets / "valkey"), ports["valkey"]),
        "HEADRACE_OBJECTS_DIR": str(home.data("objects")),
        "HEADRACE_MODEL_DIR": str(home.models / read_lock().model.name),
        "HEADRACE_API_KEYS_FILE": str(home.api_keys),
    }


def _stores(home: Home, options: Options, ports: Mapping[str, int]) -> list[Part]:
    dsn = postgres_dsn(secret_in(home.secrets / "postgres"), ports["postgres"])
    return [
        *_brokers(home, options, ports),
        *([_opensearch(home, ports)] if options.opensearch else []),
        Part(
            name="postgres",
            command=partial(
                prepare_postgres,
                home.data("postgres"),
                password_file=home.secrets / "postgres",
                port=ports["postgres"],
            ),
            env=_environment(home, "postgres"),
            ready=partial(postgres_ready, dsn),
            port=ports["postgres"],
            stop_signal=STOP_SIGNALS["postgres"],
        ),
        Part(
            name="valkey",
            command=partial(
                prepare_valkey, home.data("valkey"), password_file=home.secrets / "valkey", port=ports["valkey"]
            ),
            env=_environment(home, "valkey"),
            ready=partial(valkey_ready, valkey_url(secret_in(home.secrets / "valkey"), ports["valkey"])),
            port=ports["valkey"],
        ),
    ]


def _opensearch(home: Home, ports: Mapping[str, int]) -> Part:
    port = ports[OPENSEARCH]
    return Part(
        name=OPENSEARCH,
        command=partial(
            prepare_opensearch,
            home.data(OPENSEARCH),
            jars=read_lock().opensearch,
            cache=cache_dir(),
            port=port,
            transport_port=ports[_transport(OPENSEARCH)],
        ),
        env=_environment(home, OPENSEARCH),
        ready=partial(opensearch_ready, opensearch_url(port)),
        port=port,
    )


def _brokers(home: Home, options: Options, ports: Mapping[str, int]) -> list[Part]:
    jars, names = class_path(read_lock(), cache_dir()), broker_names(options)
    controller_ports = {node: ports[_controller(name)] for node, name in enumerate(names, start=1)}

    def membership(node: int) -> Membership | None:
        if len(names) == 1:
            return None
        return Membership(cluster_id=_cluster_id(home), node=node, controller_ports=controller_ports)

    def part(node: int, name: str) -> Part:
        bootstrap = f"127.0.0.1:{ports[name]}"
        return Part(
            name=name,
            command=partial(
                prepare_kafka,
                home.data(name),
                class_path=jars,
                port=ports[name],
                controller_port=ports[_controller(name)],
                membership=membership(node),
                more=options.kafka,
            ),
            env=_environment(home, name),
            ready=lambda: asyncio.to_thread(kafka_ready, bootstrap),
            port=ports[name],
        )

    return [part(node, name) for node, name in enumerate(names, start=1)]


def _cluster_id(home: Home) -> str:
    """Return the id that the brokers of this stack share, made up at the first call."""
    file = home.path / "kafka-cluster-id"
    if not file.exists():
        write_private(file, cluster_id())
    return file.read_text()


def _setup(home: Home, options: Options, own: Mapping[str, str]) -> Part:
    overrides = msgspec.json.encode(options.topics).decode()
    lexical = "opensearch" if options.opensearch else "tantivy"
    command = [sys.executable, "-m", "headrace.local.prepare", overrides, lexical]
    return Part(
        name="setup", command=lambda: command, env=_environment(home, "setup") | dict(own), ready=_always, once=True
    )


def _language_model(home: Home, port: int, found: Mapping[str, str]) -> Part:
    arguments = ["-m", "headrace.local.language_model", str(weights(home, read_lock().language_model)), str(port)]
    return Part(
        name=PART,
        command=lambda: [sys.executable, *arguments],
        env=_environment(home, PART) | dict(found),
        ready=partial(answers, port, "/health"),
        port=port,
    )


def _process(home: Home, row: Row, ports: Mapping[str, int], own: Mapping[str, str]) -> Part:
    port = ports[row.name] if row.port_variable else None
    env = _environment(home, row.name) | dict(own) | {"HEADRACE_LEXICAL_DIR": str(home.data("lexical") / row.name)}
    if port is not None:
        env[row.port_variable] = str(port)
    return Part(
        name=row.name,
        command=lambda: [sys.executable, *row.arguments],
        env=env | dict(row.env),
        ready=partial(answers, port) if port is not None else _always,
        port=port,
        grace_s=row.grace_s,
    )


def _environment(home: Home, part: str) -> dict[str, str]:
    return dict(os.environ) | marks(home.path, part)


async def _always() -> bool:
    return True


async def answers(port: int, path: str = "/ready") -> bool:
    """Say whether GET of a path on a port of this machine gives 200."""
    try:
        # Plain HTTP on this machine: reading the system's certificates would cost more than all the rest of a probe.
        async with httpx.AsyncClient(timeout=PROBE_S, trust_env=False, verify=False) as client:
            return (await client.get(f"http://127.0.0.1:{port}{path}")).status_code == 200
    except httpx.HTTPError:
        return False
