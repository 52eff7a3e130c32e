"""The runner: what becomes of one record."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

import msgspec
import pytest

from schemas import codec
from schemas.events import QueryAsked
from schemas.topics import ANSWERS
from streams.errors import Fatal, Transient, Unprocessable
from streams.runtime.lanes import Dropped, Slots, Turn
from streams.runtime.observer import Sample
from streams.runtime.outages import Outages
from streams.runtime.record import CLAIMED, FLUSH, Claim, Flush, Inbound, Outbound
from streams.runtime.runner import Runner, Source
from streams.runtime.stage import DeadLetter, Stage
from tests.doubles.blobs import MemoryBlobs
from tests.doubles.publisher import MemoryPublisher, Sent
from tests.streams.runtime.factories import ORIGIN, answer, question, source, stage, token
from tests.streams.runtime.waiting import until

DLQ = "rag.retrieve.dlq.v1"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Ears:
    """An observer that notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def processed(self, stage: str, seconds: float) -> None:
        self.heard.append("processed")

    def retried(self, stage: str) -> None:
        self.heard.append("retried")

    def dead_lettered(self, stage: str, reason: str) -> None:
        self.heard.append(f"dead_lettered {reason}")

    def sampled(self, stage: str, sample: Sample) -> None: ...

    def went(self, part: str) -> None:
        self.heard.append(f"went {part}")

    def came_back(self, part: str, away_s: float) -> None:
        self.heard.append(f"came back {part}")


class Bench:
    """A runner with doubles around it."""

    def __init__(self, **changes: Any) -> None:
        self.publisher, self.blobs, self.ears = MemoryPublisher(), MemoryBlobs(), Ears()
        self.probes: dict[str, Exception] = {}
        self.stage: Stage = stage(**changes)
        self.runner = Runner(
            stage=self.stage,
            sender=self.publisher,
            blobs=self.blobs,
            observer=self.ears,
            outages=Outages(
                probes={part: partial(self._probe, part) for part in ("kafka", "postgres", "objects")},
                every_s=0.01,
                observer=self.ears,
            ),
            jitter=lambda low, high: 0.01,
        )
        self.slots = Slots(2)
        self.n_acknowledged = 0

    async def _probe(self, part: str) -> None:
        if part in self.probes:
            raise self.probes[part]

    def _acknowledge(self) -> None:
        self.n_acknowledged += 1

    async def run(self, record: Source) -> list[Sent]:
        turn = Turn(slots=self.slots, leave=lambda: self.slots)
        await asyncio.wait_for(self.runner.run(record, turn, self._acknowledge), 10)
        return self.publisher.sent


def failing(*errors: Exception) -> Any:
    """A handler that raises these, one at each attempt, and then answers."""
    left = list(errors)

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        if left:
            raise left.pop(0)
        yield answer("at last")

    return handler


def texts(sent: list[Sent]) -> list[str]:
    return [msgspec.json.decode(record.value or b"")["token"] for record in sent]


async def test_what_a_handler_yields_is_published_in_order_with_source_and_trace() -> None:
    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        yield answer("one", 0)
        yield answer("two", 1)

    bench = Bench(handler=handler)
    sent = await bench.run(source(headers=[("traceparent", TRACE.encode())]))
    assert texts(sent) == ["one", "two"]
    headers = dict(sent[1].headers)
    assert headers["ce_source"] == b"/headrace/retrieve"
    assert headers["traceparent"] == TRACE.encode()
    assert bench.ears.heard == ["processed"]


async def test_a_record_without_a_valid_trace_begins_one_for_all_it_causes() -> None:
    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        yield answer("one", 0)
        yield answer("two", 1)

    first, second = await Bench(handler=handler).run(source(headers=[("traceparent", b"nonsense")]))
    assert dict(first.headers)["traceparent"] == dict(second.headers)["traceparent"]
    assert len(dict(first.headers)["traceparent"] or b"") == 55


async def test_the_handler_sees_the_record_decoded_and_whole() -> None:
    seen: list[Inbound[QueryAsked]] = []

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        seen.append(record)
        return
        yield

    bench = Bench(handler=handler)
    value = msgspec.json.encode(question("x" * 2_000))
    name = await bench.blobs.put(value)
    await bench.run(source(b"{}", headers=[("hr_blob", name.encode()), ("hr_version", b"7")]))
    assert seen[0].event == question("x" * 2_000)
    assert (seen[0].raw, seen[0].version, seen[0].timestamp_ms) == (value, 7, 1_700_000_000_000)


async def test_a_tombstone_reaches_the_handler_without_event() -> None:
    seen: list[Inbound[QueryAsked]] = []

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        seen.append(record)
        return
        yield

    record = source()
    await Bench(handler=handler).run(
        Source(key=b"k", value=None, headers=(), origin=record.origin, timestamp_ms=record.timestamp_ms)
    )
    assert (seen[0].event, seen[0].raw) == (None, None)


async def test_a_stage_that_does_not_decode_gets_the_value_as_it_came() -> None:
    seen: list[Inbound[QueryAsked]] = []

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        seen.append(record)
        return
        yield

    await Bench(handler=handler, decode=False).run(source(b"\xff not json"))
    assert (seen[0].event, seen[0].raw) == (None, b"\xff not json")


async def test_a_record_decodes_to_the_event_of_the_topic_that_it_came_from() -> None:
    seen: list[Any] = []

    async def handler(record: Inbound[Any]) -> AsyncIterator[Outbound | Flush]:
        seen.append((record.origin.topic, record.event))
        return
        yield

    bench = Bench(handler=handler, more_topics=(ANSWERS,))
    from_answers = replace(source(msgspec.json.encode(token("one"))), origin=replace(ORIGIN, topic=ANSWERS.name))
    await bench.run(source())
    await bench.run(from_answers)
    assert seen == [("rag.queries.v1", question()), ("rag.answers.v1", token("one"))]


async def test_the_run_ends_only_when_all_is_acknowledged() -> None:
    bench = Bench()
    bench.publisher.hold = True
    run = asyncio.create_task(bench.run(source()))
    await until(lambda: bool(bench.publisher.held))
    assert not run.done()
    assert bench.n_acknowledged == 0
    bench.publisher.release()
    await run
    assert bench.n_acknowledged == 1


async def test_a_claimed_record_is_acknowledged_while_its_handler_goes_on() -> None:
    go_on = asyncio.Event()

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush | Claim]:
        yield answer("before")
        yield CLAIMED
        await go_on.wait()
        yield answer("after")

    bench = Bench(handler=handler)
    bench.publisher.hold = True
    run = asyncio.create_task(bench.run(source()))
    await until(lambda: bool(bench.publisher.held))
    assert bench.n_acknowledged == 0
    bench.publisher.hold = False
    bench.publisher.release()
    await until(lambda: bench.n_acknowledged == 1)
    assert texts(bench.publisher.sent) == ["before"]
    go_on.set()
    assert texts(await run) == ["before", "after"]
    assert bench.n_acknowledged == 1


async def test_a_claimed_record_is_tried_again_in_place() -> None:
    n_attempts = 0

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush | Claim]:
        nonlocal n_attempts
        n_attempts += 1
        yield CLAIMED
        if n_attempts == 1:
            raise Transient("away")
        yield answer("at last")

    bench = Bench(handler=handler)
    assert texts(await bench.run(source())) == ["at last"]
    assert bench.ears.heard == ["retried", "processed"]
    assert bench.n_acknowledged == 1


async def test_flush_waits_for_all_that_was_yielded_before() -> None:
    after_flush = asyncio.Event()

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        yield answer("one")
        yield FLUSH
        after_flush.set()

    bench = Bench(handler=handler)
    bench.publisher.hold = True
    run = asyncio.create_task(bench.run(source()))
    await until(lambda: bool(bench.publisher.held))
    assert not after_flush.is_set()
    bench.publisher.release()
    await run
    assert after_flush.is_set()


async def test_a_transient_failure_is_tried_again_until_it_succeeds() -> None:
    bench = Bench(handler=failing(Transient("away"), Transient("still away")))
    assert texts(await bench.run(source())) == ["at last"]
    assert bench.ears.heard == ["retried", "retried", "processed"]


async def test_a_delivery_that_fails_is_tried_again() -> None:
    bench = Bench()
    bench.publisher.failures["rag.answers.v1"] = 1
    assert texts(await bench.run(source())) == ["why?"]
    assert bench.ears.heard == ["retried", "processed"]


async def test_an_unprocessable_record_is_dead_lettered_untouched_at_once() -> None:
    headers = [("a", None), ("a", b"\xff"), ("hr_blob", b"gone")]
    bench = Bench(handler=failing(Unprocessable("not_utf8", "byte 3 is not UTF-8; save it as UTF-8")), decode=False)
    name = await bench.blobs.put(b"content")
    headers[2] = ("hr_blob", name.encode())
    (sent,) = await bench.run(source(b"{}", headers=headers, key=b"\x00k"))
    assert (sent.topic, sent.key, sent.value) == (DLQ, b"\x00k", b"{}")
    assert sent.headers == [
        *headers,
        ("hr_dlq_reason", b"not_utf8"),
        ("hr_dlq_message", b"byte 3 is not UTF-8; save it as UTF-8"),
        ("hr_dlq_attempts", b"1"),
        ("hr_dlq_topic", b"rag.queries.v1"),
        ("hr_dlq_partition", b"3"),
        ("hr_dlq_offset", b"42"),
        ("hr_dlq_topic_id", b"id-of-questions"),
        ("hr_dlq_timestamp", b"1700000000000"),
        ("hr_dlq_stage", b"retrieve"),
        ("hr_dlq_group", b"rag.retrieve"),
    ]
    assert bench.ears.heard == ["dead_lettered not_utf8"]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (source(b"{"), b"undecodable"),
        (source(b'{"query": 1}'), b"undecodable"),
        (source(b"\xff\xfe"), b"undecodable"),
        (source(b"{}", headers=[("hr_blob", b"0" * 64)]), b"blob_missing"),
    ],
)
async def test_what_cannot_be_read_is_dead_lettered(record: Source, reason: bytes) -> None:
    (sent,) = await Bench().run(record)
    assert (sent.topic, sent.value) == (DLQ, record.value)
    assert dict(sent.headers)["hr_dlq_reason"] == reason


async def test_retries_end_in_a_dead_letter_when_their_time_is_over() -> None:
    bench = Bench(handler=failing(*[Transient("database away")] * 1_000), retry_max_s=0.1)
    (sent,) = await bench.run(source())
    headers = dict(sent.headers)
    assert (headers["hr_dlq_reason"], headers["hr_dlq_message"]) == (b"retries_exhausted", b"database away")
    assert int(headers["hr_dlq_attempts"] or b"0") > 1


async def test_an_attempt_over_its_deadline_is_cancelled_and_counts_as_passing() -> None:
    slow = True

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        nonlocal slow
        if slow:
            slow = False
            await asyncio.Event().wait()
        yield answer("at last")

    bench = Bench(handler=handler, deadline_s=0.05)
    assert texts(await bench.run(source())) == ["at last"]
    assert bench.ears.heard == ["retried", "processed"]


async def test_a_handler_always_too_slow_is_dead_lettered() -> None:
    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        await asyncio.Event().wait()
        yield FLUSH

    (sent,) = await Bench(handler=handler, deadline_s=0.02, retry_max_s=0).run(source())
    assert dict(sent.headers)["hr_dlq_reason"] == b"deadline"


async def test_an_unknown_exception_is_a_bug_whose_text_stays_in_the_log() -> None:
    bench = Bench(handler=failing(KeyError("secret")))
    (sent,) = await bench.run(source())
    headers = dict(sent.headers)
    assert headers["hr_dlq_reason"] == b"bug"
    assert headers["hr_dlq_message"] == b"internal error (KeyError); see the log of the retrieve stage"


async def test_fatal_ends_the_run_without_dead_letter() -> None:
    bench = Bench(handler=failing(Fatal("no table")))
    with pytest.raises(Fatal, match="no table"):
        await bench.run(source())
    assert bench.publisher.sent == []
    assert bench.n_acknowledged == 0


async def test_a_dead_letter_that_cannot_be_written_is_fatal() -> None:
    bench = Bench(handler=failing(Unprocessable("bad", "bad")))
    bench.publisher.failures[DLQ] = 1
    with pytest.raises(Fatal, match=r"dead letter of retrieve could not be written: topic 'rag.retrieve.dlq.v1'"):
        await bench.run(source())


async def test_the_hook_of_a_dead_letter_is_published_after_it() -> None:
    told: list[tuple[Any, DeadLetter]] = []

    async def hook(record: Inbound[QueryAsked], letter: DeadLetter) -> AsyncIterator[Outbound | Flush]:
        told.append((record.event, letter))
        yield answer("failed")

    bench = Bench(handler=failing(Unprocessable("bad", "it is bad")), on_dead_letter=hook)
    sent = await bench.run(source())
    assert [record.topic for record in sent] == [DLQ, "rag.answers.v1"]
    assert told == [(question(), DeadLetter(reason="bad", message="it is bad", attempts=1))]


async def test_the_hook_gets_an_unreadable_record_as_it_came() -> None:
    told: list[Any] = []

    async def hook(record: Inbound[QueryAsked], letter: DeadLetter) -> AsyncIterator[Outbound | Flush]:
        told.append((record.event, record.raw))
        return
        yield

    await Bench(on_dead_letter=hook).run(source(b"{"))
    assert told == [(None, b"{")]


async def test_a_hook_is_retried_and_one_that_is_broken_does_not_hold_up_the_stage() -> None:
    errors: list[Exception] = [Transient("away"), RuntimeError("broken")]

    async def hook(record: Inbound[QueryAsked], letter: DeadLetter) -> AsyncIterator[Outbound | Flush]:
        raise errors.pop(0)
        yield

    bench = Bench(handler=failing(Unprocessable("bad", "bad")), on_dead_letter=hook)
    assert [record.topic for record in await bench.run(source())] == [DLQ]
    assert errors == []


async def test_a_revoked_record_is_dropped_while_it_waits_for_its_next_attempt() -> None:
    bench = Bench(handler=failing(*[Transient("away")] * 1_000))
    run = asyncio.create_task(bench.run(source()))
    await until(lambda: "retried" in bench.ears.heard)
    bench.slots.close()
    with pytest.raises(Dropped):
        await run
    assert bench.publisher.sent == []


async def test_a_value_over_the_limit_leaves_by_the_object_store() -> None:
    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        yield answer("x" * codec.INLINE_MAX_BYTES)

    bench = Bench(handler=handler)
    (sent,) = await bench.run(source())
    assert sent.value == b"{}"
    name = dict(sent.headers)["hr_blob"] or b""
    assert len(await bench.blobs.get(name.decode())) > codec.INLINE_MAX_BYTES


# --- parts that are away ------------------------------------------------------------------------------

AWAY = OSError("refused")


async def test_while_the_blamed_part_is_away_no_time_counts_and_then_all_goes_on() -> None:
    lost = [Transient("connection lost", part="postgres")] * 3
    bench = Bench(handler=failing(*lost), retry_max_s=0.05)
    bench.probes["postgres"] = AWAY
    running = asyncio.create_task(bench.run(source()))
    await asyncio.sleep(0.2)
    assert bench.ears.heard == ["went postgres"]
    assert not running.done()

    del bench.probes["postgres"]
    assert texts(await running) == ["at last"]
    assert bench.ears.heard[1:] == ["came back postgres", "retried", "retried", "processed"]


async def test_where_the_blamed_part_answers_the_failure_counts() -> None:
    bench = Bench(handler=failing(*[Transient("deadlock", part="postgres")] * 9), retry_max_s=0.05)

    (sent,) = await bench.run(source())

    assert sent.topic == DLQ
    assert "went postgres" not in bench.ears.heard


async def test_no_attempt_starts_while_a_needed_part_is_known_to_be_away() -> None:
    started = 0

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        nonlocal started
        started += 1
        yield answer("at last")

    bench = Bench(handler=handler)
    bench.probes["postgres"] = AWAY
    await bench.runner.outages.ask("postgres")
    running = asyncio.create_task(bench.run(source()))
    await asyncio.sleep(0.1)
    assert started == 0

    bench.probes.clear()
    assert texts(await running) == ["at last"]


async def test_a_delivery_waits_for_kafka_and_so_does_a_dead_letter() -> None:
    bench = Bench(handler=failing(Unprocessable("poison", "no")))
    bench.publisher.failures[DLQ] = 1
    bench.probes["kafka"] = AWAY
    running = asyncio.create_task(bench.run(source()))
    await asyncio.sleep(0.1)
    assert (bench.publisher.sent, running.done()) == ([], False)

    bench.probes.clear()
    assert [sent.topic for sent in await running] == [DLQ]


async def test_a_store_that_only_some_records_need_holds_up_only_those() -> None:
    bench = Bench(handler=failing(Transient("unmounted", part="objects")))
    bench.probes["objects"] = AWAY
    running = asyncio.create_task(bench.run(source()))
    await until(lambda: "objects" in bench.runner.outages.away())

    other = Bench()
    other.runner = replace(other.runner, outages=bench.runner.outages)
    assert texts(await other.run(source())) == ["why?"]
    assert not running.done()

    bench.probes.clear()
    assert texts(await running) == ["at last"]


async def test_an_attempt_that_hung_with_its_part_does_not_count() -> None:
    calls = 0

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        nonlocal calls
        calls += 1
        if calls == 1:
            await asyncio.sleep(60)
        yield answer("at last")

    bench = Bench(handler=handler, deadline_s=0.05, retry_max_s=0.01)
    bench.probes["postgres"] = AWAY
    running = asyncio.create_task(bench.run(source()))
    await until(lambda: "postgres" in bench.runner.outages.away())
    bench.probes.clear()

    assert texts(await running) == ["at last"]


async def test_who_waits_for_a_part_gives_way_to_a_rebalance() -> None:
    bench = Bench()
    bench.probes["postgres"] = AWAY
    await bench.runner.outages.ask("postgres")
    running = asyncio.create_task(bench.run(source()))
    await asyncio.sleep(0.05)
    bench.slots.close()

    with pytest.raises(Dropped):
        await running
    assert bench.n_acknowledged == 0
