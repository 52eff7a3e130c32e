"""Processes that are killed under load: what Kafka acknowledged is handled, sooner or later."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import pytest

from schemas.topics import Topic
from streams.runtime.worker import EXIT_FORCED
from tests.streams.runtime.bench import Broker
from tests.streams.runtime.bench import broker as connected
from tests.streams.runtime.factories import question
from tests.streams.runtime.waiting import until

pytestmark = pytest.mark.integration

SEED = 20_261_125


@pytest.fixture
async def broker(kafka: str) -> AsyncIterator[Broker]:
    async with connected(kafka) as broker:
        yield broker


class Fleet:
    """Worker processes of one group."""

    def __init__(self, broker: Broker, topic: Topic, folder: Path, consumer: str) -> None:
        self._command = [
            *(sys.executable, "-m", "tests.streams.runtime.soak_worker"),
            *(broker.settings.kafka_bootstrap, topic.name, f"g.{topic.name}", str(folder / "seen"), consumer),
        ]
        self._seen = folder / "seen"
        self._log = (folder / "workers.log").open("ab")
        self.workers: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        worker = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)
        self.workers.append(worker)
        return worker

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        worker.kill()
        worker.wait()
        self.workers.remove(worker)

    def seen(self) -> set[str]:
        return set(self._seen.read_text().split()) if self._seen.exists() else set()

    def end(self) -> None:
        for worker in list(self.workers):
            self.kill(worker)
        self._log.close()


@contextmanager
def fleet(broker: Broker, topic: Topic, folder: Path, consumer: str = "safe") -> Iterator[Fleet]:
    workers = Fleet(broker, topic, folder, consumer)
    try:
        yield workers
    finally:
        workers.end()


class Load:
    """What was produced, and acknowledged by Kafka."""

    def __init__(self, broker: Broker, topic: Topic) -> None:
        self._broker, self._topic = broker, topic
        self.acknowledged: set[str] = set()

    async def put(self, text: str, partition: int) -> str:
        delivered = await self._broker.publisher.send(
            self._topic.name, key=None, value=msgspec.json.encode(question(text)), partition=partition
        )
        place = f"{delivered.partition}:{delivered.offset}"
        self.acknowledged.add(place)
        return place


async def soak(
    broker: Broker, folder: Path, consumer: str, *, n_partitions: int, n_kills: int, limit_s: float = 60
) -> set[str]:
    """Kill workers under load and return what was acknowledged and never handled.

    Each partition begins with a record that is being worked on while all behind it are done: whoever commits over it
    loses it at the first kill. One in five records is slow, so that all slots are taken and fetched records wait.
    """
    rng = random.Random(SEED)
    topic = await broker.topic(partitions=n_partitions)
    load = Load(broker, topic)
    heads = {await load.put("slow", partition) for partition in range(n_partitions)}
    fast = {await load.put("fast", n % n_partitions) for n in range(60)}
    with fleet(broker, topic, folder, consumer) as workers:
        first = workers.start()
        await until(lambda: fast <= workers.seen(), every_s=0.02)
        # commits run twice a second; the heads take two seconds
        await asyncio.sleep(1.0)
        assert not heads & workers.seen()
        workers.kill(first)
        workers.start()
        workers.start()
        for _ in range(n_kills - 1):
            until_kill = time.monotonic() + rng.uniform(5, 9)
            while time.monotonic() < until_kill:
                await load.put(rng.choice(["slow", *["fast"] * 4]), rng.randrange(n_partitions))
                await asyncio.sleep(0.025)
            workers.kill(rng.choice(workers.workers))
            workers.start()
        # what is not committed only waits; what is committed and was not seen is lost
        with suppress(TimeoutError):
            await broker.until_committed(f"g.{topic.name}", topic, len(load.acknowledged), limit_s=limit_s)
        return load.acknowledged - workers.seen()


@pytest.mark.timeout(360)
async def test_nothing_is_lost_when_workers_are_killed(broker: Broker, tmp_path: Path) -> None:
    assert await soak(broker, tmp_path, "safe", n_partitions=6, n_kills=3) == set()


async def test_the_same_soak_notices_the_acknowledgement_of_faust(broker: Broker, tmp_path: Path) -> None:
    lost = await soak(broker, tmp_path, "stock", n_partitions=4, n_kills=1, limit_s=15)
    assert {"0:0", "1:0", "2:0", "3:0"} <= lost


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_nothing_is_lost_over_many_kills(broker: Broker, tmp_path: Path) -> None:
    assert await soak(broker, tmp_path, "safe", n_partitions=6, n_kills=20, limit_s=300) == set()


async def test_a_handler_that_hangs_does_not_keep_the_process(broker: Broker, tmp_path: Path) -> None:
    topic = await broker.topic()
    load = Load(broker, topic)
    await load.put("hang", 0)
    done = await load.put("fast", 0)
    with fleet(broker, topic, tmp_path) as workers:
        worker = workers.start()
        await until(lambda: done in workers.seen(), every_s=0.05)
        began = time.monotonic()
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 20) == 0
        # four seconds to drain, and a second to leave
        assert time.monotonic() - began < 4 + 3
    assert await broker.committed(f"g.{topic.name}", topic) == 0


async def test_a_second_signal_ends_a_worker_without_waiting(broker: Broker, tmp_path: Path) -> None:
    topic = await broker.topic()
    load = Load(broker, topic)
    await load.put("hang", 0)
    done = await load.put("fast", 0)
    with fleet(broker, topic, tmp_path) as workers:
        worker = workers.start()
        await until(lambda: done in workers.seen(), every_s=0.05)
        worker.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.5)
        assert worker.poll() is None
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 3) == EXIT_FORCED
    assert await broker.committed(f"g.{topic.name}", topic) == 0


@pytest.mark.faults
async def test_a_worker_that_slept_through_its_session_goes_on(broker: Broker, tmp_path: Path) -> None:
    topic = await broker.topic(partitions=2)
    load = Load(broker, topic)
    with fleet(broker, topic, tmp_path) as workers:
        zombie = workers.start()
        workers.start()
        for n in range(40):
            await load.put("fast", n % 2)
        await until(lambda: load.acknowledged <= workers.seen(), every_s=0.05)
        os.kill(zombie.pid, signal.SIGSTOP)
        for n in range(40):
            await load.put("fast", n % 2)
        await until(lambda: load.acknowledged <= workers.seen(), limit_s=30, every_s=0.05)
        os.kill(zombie.pid, signal.SIGCONT)
        for n in range(40):
            await load.put("slow", n % 2)
        await until(lambda: load.acknowledged <= workers.seen(), limit_s=60, every_s=0.1)
        assert zombie.poll() is None
