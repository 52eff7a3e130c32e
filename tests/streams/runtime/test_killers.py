"""Records that kill their worker, from the record to the worker; that it died is said by what stands in its notes."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from schemas.events import QueryAsked
from schemas.topics import DEAD_LETTERS, Topic
from streams.errors import Transient
from streams.runtime.gate import Gate
from streams.runtime.holders import Note, Place
from streams.runtime.isolation import WINDOW_MIN, Isolation, Solo
from streams.runtime.lanes import Slots, Turn
from streams.runtime.record import CLAIMED, Claim, Flush, Inbound, Outbound
from streams.runtime.runner import Runner
from streams.runtime.stage import DeadLetter, Stage
from streams.runtime.watchdog import EXIT_STUCK
from tests.doubles.blobs import MemoryBlobs
from tests.doubles.holders import MemoryHolders
from tests.doubles.publisher import MemoryPublisher
from tests.streams.runtime.bench import Broker, running
from tests.streams.runtime.bench import broker as connected
from tests.streams.runtime.factories import ORIGIN, answer, source, stage
from tests.streams.runtime.test_runner import Ears, failing
from tests.streams.runtime.waiting import until

DLQ = "rag.retrieve.dlq.v1"
PLACE = Place(group="rag.retrieve", topic_id=ORIGIN.topic_id, partition=ORIGIN.partition)


class Bench:
    """A runner whose stage learns from notes about the record at hand."""

    def __init__(self, note: Note, **changes: Any) -> None:
        self.publisher, self.ears, self.gate, self.slots = MemoryPublisher(), Ears(), Gate(), Slots(2)
        self.holders = MemoryHolders(holder="me", notes={PLACE: note})
        self.runner = Runner(
            stage=stage(**changes),
            sender=self.publisher,
            blobs=MemoryBlobs(),
            observer=self.ears,
            gate=self.gate,
            jitter=lambda low, high: 0.01,
        )
        self.isolation = Isolation(
            holders=self.holders, gate=self.gate, group="rag.retrieve", window=2, lost=lambda: None
        )
        self.n_acknowledged = 0

    @property
    def note(self) -> Note:
        return self.holders.notes[PLACE]

    async def solo(self) -> Solo:
        async def ends(_: Any) -> dict[tuple[str, int], int]:
            return {(ORIGIN.topic_id, ORIGIN.partition): 100}

        await self.isolation.begin({(ORIGIN.topic_id, ORIGIN.partition): ORIGIN.offset}, ends)
        place = (ORIGIN.topic_id, ORIGIN.partition, ORIGIN.offset)
        solo = self.isolation.judged(self.isolation.of(*place), *place, b"it")
        assert solo is not None
        return solo

    async def run(self, **record: Any) -> None:
        def acknowledge() -> None:
            self.n_acknowledged += 1

        turn, solo = Turn(slots=self.slots, leave=lambda: self.slots), await self.solo()
        await asyncio.wait_for(self.runner.run(source(**record), turn, acknowledge, solo), 10)


def suspect(deaths: int) -> Note:
    """The note of who has died of the record at hand, not counted yet."""
    return Note(holder="dead", suspect=ORIGIN.offset, deaths=deaths - 1, alone=ORIGIN.offset)


# --- one record -----------------------------------------------------------------------------------


async def test_the_first_attempt_runs_alone_and_the_others_as_any() -> None:
    seen: list[int | None] = []

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        seen.append(bench.note.alone)
        if len(seen) == 1:
            raise Transient("busy")
        yield answer("at last")

    bench = Bench(Note(holder="dead"), handler=handler)
    await bench.run()
    assert seen == [ORIGIN.offset, None]
    assert bench.ears.heard == ["retried", "processed"]


async def test_a_claimed_record_is_alone_no_more() -> None:
    seen: list[int | None] = []

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush | Claim]:
        seen.append(bench.note.alone)
        yield CLAIMED
        seen.append(bench.note.alone)
        async with asyncio.timeout(2), bench.gate.alone(bench.slots, None):
            pass

    bench = Bench(Note(holder="dead"), handler=handler)
    await bench.run()
    assert seen == [ORIGIN.offset, None]
    assert bench.n_acknowledged == 1


async def test_at_the_third_death_the_record_is_given_up_untouched_and_never_run() -> None:
    heard: list[tuple[Inbound[Any], DeadLetter]] = []

    async def hook(record: Inbound[Any], letter: DeadLetter) -> AsyncIterator[Outbound | Flush]:
        heard.append((record, letter))
        yield answer("it failed")

    bench = Bench(suspect(3), handler=failing(AssertionError("it was run")), on_dead_letter=hook)
    headers = [("h", b"\xff"), ("h", None)]
    await bench.run(headers=headers)

    letter, told = bench.publisher.sent
    assert (letter.topic, letter.key, letter.value) == (DLQ, b"q1", source().value)
    assert list(letter.headers)[:2] == headers
    assert dict(letter.headers)["hr_dlq_reason"] == b"kills_worker"
    assert dict(letter.headers)["hr_dlq_attempts"] == b"3"
    assert told.topic == "rag.answers.v1"
    [(record, why)] = heard
    assert record.event is not None and record.event.text == "why?"
    assert (why.reason, why.attempts) == ("kills_worker", 3)
    assert bench.n_acknowledged == 1
    assert bench.ears.heard == ["dead_lettered kills_worker"]
    assert bench.note == Note(holder="me", victim="dead", killer=b"it")


async def test_a_hook_whose_worker_died_of_the_record_too_gets_it_unread() -> None:
    heard: list[Inbound[Any]] = []

    async def hook(record: Inbound[Any], letter: DeadLetter) -> AsyncIterator[Outbound | Flush]:
        heard.append(record)
        return
        yield

    bench = Bench(suspect(4), on_dead_letter=hook)
    await bench.run()
    assert [(record.event, record.key, record.origin) for record in heard] == [(None, b"q1", ORIGIN)]


async def test_a_record_that_is_being_given_up_is_marked() -> None:
    seen: list[int | None] = []

    async def hook(record: Inbound[Any], letter: DeadLetter) -> AsyncIterator[Outbound | Flush]:
        seen.append(bench.note.alone)
        return
        yield

    bench = Bench(suspect(3), on_dead_letter=hook)
    await bench.run()
    assert seen == [ORIGIN.offset]


# --- a worker -------------------------------------------------------------------------------------


@pytest.fixture
async def broker(kafka: str) -> AsyncIterator[Broker]:
    async with connected(kafka) as broker:
        yield broker


async def place_of(broker: Broker, topic: Topic, partition: int = 0) -> Place:
    ids = await broker.admin.topic_ids([topic.name])
    return Place(group=f"g.{topic.name}", topic_id=ids[topic.name], partition=partition)


def stage_of(topic: Topic, handler: Any, **changes: Any) -> Stage:
    return stage(**({"topic": topic, "group": f"g.{topic.name}", "handler": handler, "slots": 4} | changes))


class Busy:
    """A handler that notes which texts ran beside others."""

    def __init__(self) -> None:
        self.here: set[str] = set()
        self.beside: dict[str, set[str]] = {}

    async def __call__(self, record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        assert record.event is not None
        text = record.event.text
        self.here.add(text)
        for each in self.here:
            self.beside.setdefault(each, set()).update(self.here - {each})
        await asyncio.sleep(0.05)
        self.here.discard(text)
        return
        yield


@pytest.mark.integration
async def test_after_a_death_the_first_records_of_each_partition_run_alone_and_the_rest_together(
    broker: Broker,
) -> None:
    topic = await broker.topic(partitions=2)
    busy = Busy()
    subject = stage_of(topic, busy)
    notes = {await place_of(broker, topic, n): Note(holder="dead") for n in (0, 1)}
    for partition in (0, 1):
        await broker.put(topic, *(f"{partition}-{n}" for n in range(40)), partition=partition)

    async with running(broker, subject, holders=MemoryHolders(holder="me", notes=notes)):
        await broker.until_committed(subject.group, topic, 80)
        assert [(note.holder, note.due) for note in notes.values()] == [("me", False)] * 2

    alone = {text for text, others in busy.beside.items() if not others}
    assert {f"{partition}-{n}" for partition in (0, 1) for n in range(WINDOW_MIN)} <= alone
    assert len(alone) < 60
    assert [note.holder for note in notes.values()] == [None, None]


@pytest.mark.integration
async def test_what_has_killed_three_workers_is_dead_lettered_and_the_rest_flows(broker: Broker) -> None:
    topic = await broker.topic()
    dead = DEAD_LETTERS.named("retrieve")
    before = (await broker.admin.end_offsets(dead.name))[0]
    busy = Busy()
    subject = stage_of(topic, busy)
    place = await place_of(broker, topic)
    notes = {place: Note(holder="dead", alone=2, suspect=2, deaths=2)}
    await broker.put(topic, "a", "b", "killer", "c", "d")
    # as the stage before does when it dies along, before it has committed
    await broker.put(topic, "killer", "e")

    async with running(broker, subject, holders=MemoryHolders(holder="me", notes=notes)):
        await broker.until_committed(subject.group, topic, 7)

    letters = await broker.read(dead, before)
    assert [letter.key for letter in letters] == [b"killer"] * 2
    headers = [dict(letter.headers) for letter in letters]
    assert [each["hr_dlq_reason"] for each in headers] == [b"kills_worker"] * 2
    assert [each["hr_dlq_offset"] for each in headers] == [b"2", b"5"]
    assert set(busy.beside) == {"a", "b", "c", "d", "e"}
    assert notes[place].suspect is None
    assert notes[place].killer is not None


@pytest.mark.integration
async def test_without_the_store_a_worker_works_and_leaves_the_note_of_the_dead_one(broker: Broker) -> None:
    topic = await broker.topic()
    subject = stage_of(topic, Busy())
    place = await place_of(broker, topic)
    notes = {place: Note(holder="dead")}
    await broker.put(topic, "a", "b")

    async with running(broker, subject, holders=MemoryHolders(holder="me", notes=notes, away=True)):
        await broker.until_committed(subject.group, topic, 2)

    assert notes[place] == Note(holder="dead")


@pytest.mark.integration
async def test_who_finds_a_partition_anothers_while_it_holds_it_takes_it_again(broker: Broker) -> None:
    topic = await broker.topic()
    place = await place_of(broker, topic)
    notes = {place: Note(holder="dead")}
    done: list[str] = []

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        assert record.event is not None
        if not done:
            # a zombie that does not know yet that it is one
            notes[place] = replace(notes[place], holder="zombie")
        done.append(record.event.text)
        return
        yield

    await broker.put(topic, "a", "b", "c")
    subject = stage_of(topic, handler)
    async with running(broker, subject, holders=MemoryHolders(holder="me", notes=notes)):
        await broker.until_committed(subject.group, topic, 3)
        assert notes[place].holder == "me"
    assert set(done) == {"a", "b", "c"}


@pytest.mark.integration
async def test_a_worker_that_ends_because_a_handler_does_not_leaves_its_note(broker: Broker) -> None:
    topic = await broker.topic()
    place = await place_of(broker, topic)
    notes = {place: Note(holder="dead")}
    go = asyncio.Event()

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue
        return
        yield

    await broker.put(topic, "a")
    subject = stage_of(topic, handler, deadline_s=0.5)
    async with running(broker, subject, holders=MemoryHolders(holder="me", notes=notes)) as worker:
        await until(worker.done, limit_s=30, every_s=0.05)
        go.set()
        assert worker.result() == EXIT_STUCK
    assert (notes[place].holder, notes[place].alone) == ("me", 0)


@pytest.mark.integration
async def test_a_rebalance_hands_partitions_on_in_good_order(broker: Broker) -> None:
    topic = await broker.topic(partitions=2)
    places = [await place_of(broker, topic, n) for n in (0, 1)]
    notes = {place: Note(holder="dead") for place in places}
    first, second = Busy(), Busy()
    for partition in (0, 1):
        await broker.put(topic, f"{partition}-0", f"{partition}-1", partition=partition)
    subject = stage_of(topic, first)
    async with running(broker, subject, holders=MemoryHolders(holder="one", notes=notes)):
        await broker.until_committed(subject.group, topic, 4)
        async with running(broker, stage_of(topic, second), holders=MemoryHolders(holder="two", notes=notes)):
            await until(lambda: {note.holder for note in notes.values()} == {"one", "two"}, every_s=0.05)
            assert [note.due for note in notes.values()] == [False, False]
        await until(lambda: {note.holder for note in notes.values()} == {"one"}, every_s=0.05)
    assert [note.holder for note in notes.values()] == [None, None]
