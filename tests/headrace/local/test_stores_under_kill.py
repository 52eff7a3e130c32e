"""The real Kafka, the real Postgres and the real Valkey of a stack, killed under load."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator

import asyncpg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from backbone.settings import ValkeySettings
from backbone.valkey import connected
from headrace.local import stack
from headrace.local.home import Home
from headrace.local.postgres import postgres_dsn
from headrace.local.table import Options
from headrace.local.valkey import valkey_url
from schemas.topics import INGEST

pytestmark = [pytest.mark.integration, pytest.mark.timeout(360)]

STORES = Options(processes=(), topics={INGEST.name: {"retention.ms": "3600000"}})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("stack") / "home")
    stack.up(home, STORES)
    yield home
    stack.down(home)


def kill(home: Home, part: str) -> None:
    pid = stack.pid_of(home, part)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def wait_until_ready(home: Home, restarts: dict[str, int]) -> None:
    deadline = time.monotonic() + 60
    while True:
        found = stack.status(home)
        if found.ready and {part.name: part.restarts for part in found.parts if part.name in restarts} == restarts:
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def produce(home: Home, n: int, *, kill_at: int) -> set[bytes]:
    """Produce n records one by one, killing the broker on the way; return those that it acknowledged."""
    acknowledged = set()
    producer = Producer(
        {
            "bootstrap.servers": f"127.0.0.1:{stack.port_of(home, 'kafka')}",
            "enable.idempotence": True,
            "log_level": 0,
        }
    )
    for i in range(n):
        value = str(i).encode()

        def on_delivery(error: object, _: object, value: bytes = value) -> None:
            if error is None:
                acknowledged.add(value)

        producer.produce(INGEST.name, value, partition=0, on_delivery=on_delivery)
        producer.poll(0)
        if i == kill_at:
            kill(home, "kafka")
    assert producer.flush(60) == 0
    return acknowledged


def read_all(home: Home) -> list[bytes | None]:
    """Read partition 0 of the topic from its beginning to its present end."""
    consumer = Consumer(
        {"bootstrap.servers": f"127.0.0.1:{stack.port_of(home, 'kafka')}", "group.id": "test", "log_level": 0}
    )
    place = TopicPartition(INGEST.name, 0, 0)
    consumer.assign([place])
    _, end = consumer.get_watermark_offsets(place, timeout=30)
    values: list[bytes | None] = []
    while len(values) < end:
        values += [message.value() for message in consumer.consume(1000, timeout=1) if message.error() is None]
    consumer.close()
    return values


def test_kafka_keeps_every_acknowledged_record_once_over_kill_9(home: Home) -> None:
    acknowledged = produce(home, 5_000, kill_at=2_500)

    wait_until_ready(home, {"kafka": 1})
    found = read_all(home)
    assert len(acknowledged) == 5_000
    assert (len(found), set(found)) == (5_000, acknowledged)


async def test_postgres_keeps_every_committed_row_over_kill_9(home: Home) -> None:
    password = (home.secrets / "postgres").read_text()
    dsn = postgres_dsn(password, stack.port_of(home, "postgres"), "headrace")
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE kept (n int)")
    for n in range(200):
        await connection.execute("INSERT INTO kept VALUES ($1)", n)

    kill(home, "postgres")

    wait_until_ready(home, {"postgres": 1})
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT count(*) FROM kept") == 200
    assert await connection.fetchval("SELECT generation FROM aliases WHERE alias = 'live'") == "g1"
    await connection.close()


def test_data_lives_through_the_death_of_supervisor_and_broker_and_a_clean_restart(home: Home) -> None:
    before = read_all(home)

    kill(home, "kafka")
    kill(home, "supervisor")
    assert stack.up(home, STORES)
    assert read_all(home) == before
    stack.down(home)
    assert stack.up(home, STORES)
    assert read_all(home) == before


def test_a_killed_valkey_comes_back_empty_on_its_port(home: Home) -> None:
    port = stack.port_of(home, "valkey")
    url = valkey_url((home.secrets / "valkey").read_text(), port)

    async def put_or_get(value: bytes | None) -> bytes | None:
        async with connected(ValkeySettings.model_validate({"valkey_url": url})) as valkey:
            if value is not None:
                await valkey.put("key", value, ttl_s=60)
            return await valkey.get("key")

    assert asyncio.run(put_or_get(b"value")) == b"value"

    kill(home, "valkey")
    wait_until_ready(home, {"valkey": 1})

    assert stack.port_of(home, "valkey") == port
    assert asyncio.run(put_or_get(None)) is None
