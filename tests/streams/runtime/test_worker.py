"""Workers beside a real broker."""

import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from backbone.kafka import client_config
from schemas.events import QueryAsked
from schemas.topics import DEAD_LETTERS, Topic
from streams.errors import Fatal, Transient, Unprocessable
from streams.runtime.app import Timing
from streams.runtime.consumer import SafeConsumer
from streams.runtime.observer import Sample, Silent
from streams.runtime.record import CLAIMED, Claim, Flush, Inbound, Outbound
from streams.runtime.stage import Stage
from streams.runtime.worker import EXIT_CRASHED, EXIT_FATAL, run_worker
from tests.doubles.blobs import MemoryBlobs
from tests.streams.runtime.bench import QUICK, Broker, running
from tests.streams.runtime.bench import broker as connected
from tests.streams.runtime.factories import stage
from tests.streams.runtime.waiting import until

pytestmark = pytest.mark.integration


@pytest.fixture
async def broker(kafka: str) -> AsyncIterator[Broker]:
    async with connected(kafka) as broker:
        yield broker


class Work:
    """A handler that notes texts, and holds back those it is told to."""

    def __init__(self, *held: str) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []
        self.go = {text: asyncio.Event() for text in held}

    async def __call__(self, record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        assert record.event is not None
        text = record.event.text
        self.begun.append(text)
        if text in self.go:
            await self.go[text].wait()
        self.done.append(text)
        return
        yield


def one(broker_topic: Any, handler: Any, **changes: Any) -> Stage:
    values = {"topic": broker_topic, "group": f"g.{broker_topic.name}", "handler": handler, "slots": 8}
    return stage(**(values | changes))


@pytest.mark.parametrize("held", [0, 1, 5])
async def test_an_unfinished_record_holds_the_commit_while_later_ones_are_done(broker: Broker, held: int) -> None:
    topic = await broker.topic()
    texts = [str(n) for n in range(10)]
    work = Work(str(held))
    subject = one(topic, work)
    await broker.put(topic, *texts)
    async with running(broker, subject):
        await until(lambda: len(work.done) == 9)
        await asyncio.sleep(1.2)  # two commits
        assert await broker.committed(subject.group, topic) == held
        work.go[str(held)].set()
        await broker.until_committed(subject.group, topic, 10)
    assert sorted(work.done) == texts


async def test_records_of_one_key_stay_in_order_over_retries(broker: Broker) -> None:
    topic = await broker.topic()
    done: list[str] = []
    failed = False

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        nonlocal failed
        assert record.event is not None
        if record.event.text == "1" and not failed:
            failed = True
            raise Transient("away")
        done.append(record.event.text)
        return
        yield

    await broker.put(topic, "1", "2", "3", key=b"same")
    async with running(broker, one(topic, handler)):
        await until(lambda: len(done) == 3)
    assert done == ["1", "2", "3"]


async def test_a_poison_record_is_dead_lettered_and_others_pass(broker: Broker) -> None:
    topic = await broker.topic()
    dead = DEAD_LETTERS.named("chunk")
    before = (await broker.admin.end_offsets(dead.name))[0]
    done: list[str] = []

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        assert record.event is not None
        if record.event.text == "poison":
            raise Unprocessable("poison", "it is poison")
        done.append(record.event.text)
        return
        yield

    headers = [("h", b"\xff"), ("h", None)]
    await broker.publisher.send(topic.name, key=b"\x00", value=b"\xffgarbage", headers=headers)
    await broker.put(topic, "poison", "good")
    subject = one(topic, handler, name="chunk")
    async with running(broker, subject):
        await broker.until_committed(subject.group, topic, 3)
    letters = await broker.read(dead, before)
    garbage = next(letter for letter in letters if letter.key == b"\x00")
    assert garbage.value == b"\xffgarbage"
    assert list(garbage.headers)[:2] == headers
    told = dict(list(garbage.headers)[2:])
    assert told["hr_dlq_reason"] == b"undecodable"
    assert told["hr_dlq_offset"] == b"0"
    ids = await broker.admin.topic_ids([topic.name])
    assert (told["hr_dlq_topic_id"] or b"").decode() == ids[topic.name]
    assert [dict(letter.headers)["hr_dlq_reason"] for letter in letters if letter.key == b"poison"] == [b"poison"]
    assert done == ["good"]


async def test_poison_delays_others_by_noise_and_its_own_key_by_its_retries(broker: Broker) -> None:
    topic = await broker.topic()
    retry_max_s = 4.0
    began: dict[str, float] = {}
    done: dict[str, float] = {}
    n_given_up = 0

    class Ears(Silent):
        def dead_lettered(self, stage: str, reason: str) -> None:
            nonlocal n_given_up
            n_given_up += 1

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        assert record.event is not None
        text = record.event.text
        began.setdefault(text, time.monotonic())
        if text.startswith("poison"):
            await asyncio.sleep(0.02)
            raise Transient("never works")
        done[text] = time.monotonic()
        return
        yield

    good = {f"good-{n}" for n in range(10)}
    for n in range(10):
        await broker.put(topic, f"poison-{n}", f"good-{n}")
    await broker.put(topic, "behind", key=b"poison-0")
    subject = one(topic, handler, name="chunk", slots=2, retry_max_s=retry_max_s)
    async with running(broker, subject, observer=Ears()):
        await until(lambda: {*good, "behind"} <= done.keys() and n_given_up == 10, limit_s=60, every_s=0.01)
    first = began["poison-0"]
    # poison that kept its slot while it waits would take both, five times over
    assert max(done[text] for text in good) - first < 0.5 * retry_max_s
    # a second for a busy machine
    assert max(done[text] for text in good) < done["behind"] < first + retry_max_s + 1.0


async def test_fatal_ends_the_worker_without_acknowledging(broker: Broker) -> None:
    topic = await broker.topic()

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        raise Fatal("no table")
        yield

    await broker.put(topic, "a")
    subject = one(topic, handler)
    async with running(broker, subject) as worker:
        assert await asyncio.wait_for(worker, 15) == EXIT_FATAL
    assert await broker.committed(subject.group, topic) == 0


async def test_a_rebalance_hands_over_only_what_is_unfinished(broker: Broker) -> None:
    topic = await broker.topic(partitions=2)
    first, second = Work("slow"), Work()
    for partition in (0, 1):
        await broker.put(topic, *(f"{partition}-{n}" for n in range(5)), partition=partition)
    subject = one(topic, first)
    async with running(broker, subject):
        await until(lambda: len(first.done) == 10)
        await broker.put(topic, "slow")
        await until(lambda: "slow" in first.begun)
        async with running(broker, one(topic, second)):
            # the running handler got two seconds to end, and was cancelled
            await until(lambda: (first.begun + second.begun).count("slow") == 2)
            first.go["slow"].set()
            await broker.until_committed(subject.group, topic, 11)
            for partition in (0, 1):
                await broker.put(topic, f"after-{partition}", partition=partition)
            await until(lambda: {"after-0", "after-1"} <= set(first.done + second.done))
            assert any(text.startswith("after") for text in first.done)
            assert any(text.startswith("after") for text in second.done)
    assert len(first.done + second.done) == len(set(first.done + second.done)) == 13


class Writing:
    """A handler that claims its record and writes for as long as the test wants."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.go = asyncio.Event()

    async def __call__(self, record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush | Claim]:
        assert record.event is not None
        text = record.event.text
        self.events.append(f"{text} begins")
        try:
            yield CLAIMED
            await self.go.wait()
        except (asyncio.CancelledError, GeneratorExit):
            self.events.append(f"{text} is given back")
            raise
        self.events.append(f"{text} ends")


async def test_a_rebalance_neither_waits_for_a_claimed_handler_nor_starts_it_again(broker: Broker) -> None:
    topic = await broker.topic(partitions=2)
    writing, work = Writing(), Work()
    patient = Timing(session_s=6.0, rebalance_s=30.0, drain_s=25.0)
    subject = one(topic, writing)
    await broker.put(topic, "answer")
    async with running(broker, subject, timing=patient):
        # the record is behind us, though the answer is not
        await broker.until_committed(subject.group, topic, 1)
        began = time.monotonic()
        async with running(broker, one(topic, work), timing=patient):
            assert time.monotonic() - began < 15
            for partition in (0, 1):
                await broker.put(topic, f"after-{partition}", partition=partition)
            await until(lambda: len(writing.events) == 2 and len(work.done) == 1, every_s=0.02)
            writing.go.set()
            await until(lambda: len(writing.events) == 4, every_s=0.02)
            await broker.until_committed(subject.group, topic, 3)
    begins = [event for event in writing.events if event.endswith("begins")]
    assert begins[0] == "answer begins"
    assert writing.events[2:] == ["answer ends", begins[1].replace("begins", "ends")]
    assert {begins[1].split()[0], *work.done} == {"after-0", "after-1"}


async def test_stopping_gives_claimed_handlers_the_time_of_a_drain(broker: Broker) -> None:
    topic = await broker.topic()
    writing = Writing()
    await broker.put(topic, "answer")
    async with running(broker, one(topic, writing)):
        await until(lambda: bool(writing.events))
        asyncio.get_running_loop().call_later(0.5, writing.go.set)
    assert writing.events == ["answer begins", "answer ends"]


async def test_a_claimed_handler_that_does_not_end_in_time_gives_its_claim_back(broker: Broker) -> None:
    topic = await broker.topic()
    writing = Writing()
    subject = one(topic, writing)
    await broker.put(topic, "answer")
    async with running(broker, subject):
        await broker.until_committed(subject.group, topic, 1)
    assert writing.events == ["answer begins", "answer is given back"]


async def test_stopping_drains_and_commits(broker: Broker) -> None:
    topic = await broker.topic()
    work = Work("slow")
    subject = one(topic, work)
    await broker.put(topic, "slow", "fast")
    async with running(broker, subject):
        await until(lambda: "slow" in work.begun)
        asyncio.get_running_loop().call_later(0.5, work.go["slow"].set)
    assert sorted(work.done) == ["fast", "slow"]
    assert await broker.committed(subject.group, topic) == 2


async def test_records_deleted_by_retention_before_they_were_read_are_passed_over(broker: Broker) -> None:
    topic = await broker.topic()
    work = Work()
    subject = one(topic, work)
    await broker.put(topic, "a", "b")
    async with running(broker, subject):
        await broker.until_committed(subject.group, topic, 2)
    await broker.put(topic, *(f"lost-{n}" for n in range(50)))
    client = AdminClient(client_config(broker.settings))
    await asyncio.wrap_future(next(iter(client.delete_records([TopicPartition(topic.name, 0, 40)]).values())))
    async with running(broker, subject):
        await broker.until_committed(subject.group, topic, 52)
    assert work.done[2:] == [f"lost-{n}" for n in range(38, 50)]


async def test_a_pause_holds_over_a_rebalance(broker: Broker) -> None:
    topic = await broker.topic(partitions=2)
    first, second = Work(), Work()
    made: list[SafeConsumer] = []

    class Noted(SafeConsumer):
        def __init__(self, *args: Any, **kw: Any) -> None:
            super().__init__(*args, **kw)
            made.append(self)

    subject = one(topic, first)
    async with running(broker, subject, consumer=Noted):
        both = set(made[0].assignment())
        assert len(both) == 2
        await made[0].pause_native(*both)
        async with running(broker, one(topic, second)):
            await until(lambda: len(made[0].assignment()) == 1, every_s=0.05)
            await until(lambda: made[0].flow_active, every_s=0.05)
            for partition in (0, 1):
                await broker.put(topic, f"p{partition}", partition=partition)
            await until(lambda: len(second.done) == 1)
            await asyncio.sleep(1)
            assert first.done == []
            await made[0].resume_native(*both)
            await until(lambda: len(first.done) == 1)


async def test_stages_in_one_process_do_not_wait_for_each_other(broker: Broker) -> None:
    topics = [await broker.topic() for _ in range(3)]
    works = [Work("held"), Work(), Work()]
    stages = [one(topic, work) for topic, work in zip(topics, works, strict=True)]
    async with running(broker, *stages):
        for topic in topics:
            await broker.put(topic, "held", "other", key=b"same")
        await until(lambda: len(works[1].done) == len(works[2].done) == 2)
        assert works[0].done == []
        works[0].go["held"].set()
        await until(lambda: len(works[0].done) == 2)


async def test_a_stage_of_several_topics_handles_and_commits_each(broker: Broker) -> None:
    topics = [await broker.topic(), await broker.topic(partitions=2), await broker.topic()]
    seen: set[tuple[str, str, str]] = set()
    lag: dict[tuple[str, int], int] = {}

    class Ears(Silent):
        def sampled(self, stage: str, sample: Sample) -> None:
            lag.update(sample.lag)

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        assert record.event is not None
        seen.add((record.origin.topic, record.origin.topic_id, record.event.text))
        return
        yield

    subject = one(topics[0], handler, more_topics=tuple(topics[1:]))
    ids = await broker.admin.topic_ids([topic.name for topic in topics])
    async with running(broker, subject, observer=Ears()):
        for topic in topics:
            await broker.put(topic, "a")
            await broker.put(topic, "b", partition=topic.partitions - 1)
        for topic in topics:
            await broker.until_committed(subject.group, topic, 2)
        places = {(topic.name, partition) for topic in topics for partition in range(topic.partitions)}
        await until(lambda: lag == dict.fromkeys(places, 0), every_s=0.1)
    assert seen == {(topic.name, ids[topic.name], text) for topic in topics for text in ("a", "b")}


async def test_the_lag_of_every_partition_is_known_where_nothing_came_yet_too(broker: Broker) -> None:
    topic = await broker.topic(partitions=4)
    await broker.put(topic, "first", "second", "third", partition=1)
    await broker.put(topic, "gone", partition=2)
    admin = AdminClient(client_config(broker.settings))
    for deleted in admin.delete_records([TopicPartition(topic.name, 2, 1)]).values():
        deleted.result(10)
    lag: dict[int, int] = {}

    class Ears(Silent):
        def sampled(self, stage: str, sample: Sample) -> None:
            lag.update({partition: n for (_, partition), n in sample.lag.items()})

    work = Work("second")
    async with running(broker, one(topic, work), observer=Ears()):
        await until(lambda: lag == {0: 0, 1: 2, 2: 0, 3: 0}, every_s=0.1)
        work.go["second"].set()
        await until(lambda: lag == {0: 0, 1: 0, 2: 0, 3: 0}, every_s=0.1)


async def test_a_stage_held_back_by_its_slots_runs_at_their_rate(broker: Broker) -> None:
    topic = await broker.topic(partitions=4)
    n_done = 0

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        nonlocal n_done
        await asyncio.sleep(0.01)
        n_done += 1
        return
        yield

    async def rate() -> float:
        nonlocal n_done
        n_done = 0
        for partition in range(4):
            await broker.put(topic, *(f"{partition}-{n}" for n in range(300)), partition=partition)
        async with running(broker, one(topic, handler)):
            began = time.monotonic()
            await until(lambda: n_done == 1_200, limit_s=30, every_s=0.01)
            return 1_200 / (time.monotonic() - began)

    # 8 slots of 10 ms: 800/s at best. Faust alone reached 278/s here. What else the machine does may slow one turn
    rates = [await rate() for _ in range(3)]
    assert statistics.median(rates) > 0.5 * 800, rates


async def test_a_topic_that_kafka_compacts_while_it_is_read_is_committed_to_its_end(broker: Broker) -> None:
    topic = await broker.topic(
        cleanup_policy="compact",
        segment_ms="500",
        min_cleanable_dirty_ratio="0.01",
        max_compaction_lag_ms="500",
        min_compaction_lag_ms="0",
    )
    latest: dict[bytes, str] = {}
    gaps = 0

    class Ears(Silent):
        def sampled(self, stage: str, sample: Sample) -> None:
            nonlocal gaps
            gaps = max(gaps, sample.gaps)

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        await asyncio.sleep(0.02)
        assert record.event is not None and record.key is not None
        latest[record.key] = record.event.text
        return
        yield

    wanted: dict[bytes, str] = {}

    async def produce(n_rounds: int, first: int) -> None:
        for turn in range(first, first + n_rounds):
            for key in (b"a", b"b", b"c"):
                wanted[key] = f"{key.decode()}-{turn}"
                await broker.put(topic, wanted[key], key=key)

    async with quick_cleaner(broker):
        wanted[b"first"] = "first"
        await broker.put(topic, "first")
        await produce(300, 0)
        await until_compacted(broker, topic, 900)
        subject = one(topic, handler)
        async with running(broker, subject, observer=Ears()):
            for turn in range(6):
                await produce(10, 1_000 + 10 * turn)
                await asyncio.sleep(0.6)
            end = sum((await broker.admin.end_offsets(topic.name)).values())
            await broker.until_committed(subject.group, topic, end)
            await until(lambda: gaps > 0, every_s=0.1)
    latest.pop(b"roll", None)
    assert latest == wanted


@asynccontextmanager
async def quick_cleaner(broker: Broker) -> AsyncIterator[None]:
    """Let the broker look for logs to compact four times a second, in place of every 15 s."""
    client = AdminClient(client_config(broker.settings))

    async def alter(operation: AlterConfigOpType) -> None:
        entry = ConfigEntry("log.cleaner.backoff.ms", "250", incremental_operation=operation)
        resource = ConfigResource(ResourceType.BROKER, "1", incremental_configs=[entry])
        await asyncio.wrap_future(next(iter(client.incremental_alter_configs([resource]).values())))

    await alter(AlterConfigOpType.SET)
    yield
    await alter(AlterConfigOpType.DELETE)


async def until_compacted(broker: Broker, topic: Topic, n_produced: int) -> None:
    """Wait until most records are gone, producing to roll the segment."""
    async with asyncio.timeout(40):
        while len(await broker.read(topic)) > n_produced / 2:
            await broker.put(topic, "roll", key=b"roll")
            await asyncio.sleep(0.5)


async def test_pauses_lose_nothing(broker: Broker) -> None:
    topic = await broker.topic(partitions=2)
    work = Work()
    made: list[SafeConsumer] = []

    class Noted(SafeConsumer):
        def __init__(self, *args: Any, **kw: Any) -> None:
            super().__init__(*args, **kw)
            made.append(self)

    subject = one(topic, work, slots=2)
    rng = random.Random(7)
    async with running(broker, subject, consumer=Noted):
        for turn in range(20):
            place = rng.choice(sorted(made[0].assignment()))
            await made[0].pause_native(place)
            for partition in (0, 1):
                await broker.put(topic, *(f"{turn}-{partition}-{n}" for n in range(100)), partition=partition)
            await made[0].resume_native(place)
        await broker.until_committed(subject.group, topic, 4_000)
    assert len(set(work.done)) == len(work.done) == 4_000


async def test_a_commit_that_fails_is_made_again_without_new_records(broker: Broker) -> None:
    topic = await broker.topic()
    refused = 0

    class Refusing(SafeConsumer):
        async def _commit(self, offsets: Any) -> bool:
            nonlocal refused
            refused += 1
            return False if refused <= 2 else await super()._commit(offsets)

    subject = one(topic, Work())
    await broker.put(topic, "a", "b")
    async with running(broker, subject, consumer=Refusing):
        await broker.until_committed(subject.group, topic, 2)
    assert refused > 2


async def test_a_stage_joins_its_group_only_after_what_must_come_before(broker: Broker) -> None:
    topic = await broker.topic()
    work, may_join, events = Work(), asyncio.Event(), []

    async def before_join(subject: Stage) -> None:
        events.append(subject.name)
        await may_join.wait()

    await broker.put(topic, "a")
    worker = asyncio.create_task(
        run_worker(
            [one(topic, work)],
            kafka=broker.settings,
            publisher=broker.publisher,
            blobs=MemoryBlobs(),
            before_join=before_join,
            on_ready=lambda: events.append("ready"),
            timing=QUICK,
        )
    )
    try:
        await until(lambda: events == ["retrieve"])
        await asyncio.sleep(0.5)
        assert (events, work.begun) == (["retrieve"], [])
        may_join.set()
        await until(lambda: work.done == ["a"])
        await until(lambda: events == ["retrieve", "ready"])
    finally:
        worker.cancel()
        await asyncio.wait({worker})


async def test_a_crash_of_one_app_ends_the_worker(broker: Broker) -> None:
    topics = [await broker.topic() for _ in range(2)]

    class Broken(SafeConsumer):
        async def _commit(self, offsets: Any) -> bool:
            raise RuntimeError("broken")

    await broker.put(topics[0], "a")
    async with running(broker, *(one(topic, Work()) for topic in topics), consumer=Broken) as worker:
        assert await asyncio.wait_for(worker, 30) == EXIT_CRASHED


@pytest.mark.timeout(360)
async def test_rebalances_that_overlap_lose_nothing(broker: Broker) -> None:
    topic = await broker.topic(partitions=6)
    done: list[str] = []

    class LateResume(SafeConsumer):
        async def perform_seek(self) -> None:
            await super().perform_seek()
            await asyncio.sleep(1.5)

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        assert record.event is not None
        if record.event.text.endswith("0"):
            await asyncio.sleep(1)
        done.append(record.event.text)
        return
        yield

    texts = [[f"{partition}-{n}" for n in range(120)] for partition in range(6)]
    subject = one(topic, handler, slots=4)

    async def join(after_s: float) -> None:
        await asyncio.sleep(after_s)
        async with running(broker, subject, consumer=LateResume):
            await ended.wait()

    ended = asyncio.Event()
    for partition in range(6):
        await broker.put(topic, *texts[partition], partition=partition)
    async with running(broker, subject, consumer=LateResume), asyncio.TaskGroup() as members:
        # each joins while the one before makes the others seek
        for n in range(5):
            members.create_task(join(0.7 * n))
        await broker.until_committed(subject.group, topic, 720, limit_s=90)
        ended.set()
    assert set(done) == {text for texts_of_one in texts for text in texts_of_one}
