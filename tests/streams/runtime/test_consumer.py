"""The consumer without a broker: what Faust's own events acknowledge, and what would be committed."""

import asyncio
from collections.abc import Mapping
from typing import Any

import faust
import pytest
from faust.events import Event
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from streams.runtime.consumer import SafeConsumer, SafeTransport
from streams.runtime.ledger import Ledger

TOPIC = "questions"
PLACE = TP(TOPIC, 0)


class NoFlow:
    """A flow that does nothing."""

    async def drain(self) -> None: ...

    async def restart(self) -> None: ...

    async def begin(self, positions: Mapping[TP, int]) -> None: ...


class Bench:
    """A consumer whose hand-outs end in a list."""

    def __init__(self, buffer_bytes: int = 1_000) -> None:
        self.app: Any = faust.App("bench", broker="kafka://127.0.0.1:1", value_serializer="raw")
        self.app.transport = SafeTransport(
            self.app.conf.broker_consumer, self.app, consumer=SafeConsumer, flow=NoFlow(), buffer_bytes=buffer_bytes
        )
        self.app.consumer_generation_id = 1
        self.handed_out: list[ConsumerMessage] = []
        self.consumer: SafeConsumer = self.app.transport.create_consumer(
            self._keep, on_partitions_revoked=self._nothing, on_partitions_assigned=self._nothing
        )
        self.app.consumer = self.consumer
        self.place()

    def place(self) -> None:
        """What seeking does: from here on records are handed out."""
        self.consumer._ledgers, self.consumer._seek_due = {PLACE: Ledger()}, False

    async def _nothing(self, *_: Any) -> None: ...

    async def _keep(self, message: ConsumerMessage) -> None:
        self.handed_out.append(message)

    def message(self, offset: int, generation: int = 1, value: bytes = b"v" * 100) -> ConsumerMessage:
        return ConsumerMessage(TOPIC, 0, offset, 0.0, 0, [], None, value, None, 0, 0, PLACE, generation_id=generation)

    async def hand_out(self, *offsets: int) -> list[ConsumerMessage]:
        messages = [self.message(offset) for offset in offsets]
        for message in messages:
            await self.consumer.callback(message)
        return messages

    def committable(self) -> int | None:
        return self.consumer._filter_committable_offsets([PLACE]).get(PLACE)


async def test_an_event_of_a_stream_acknowledges_to_the_ledger() -> None:
    bench = Bench()
    first, second = await bench.hand_out(0, 1)
    for message in (first, second):
        message.incref()
    assert Event(bench.app, None, b"", None, second).ack()
    assert bench.committable() == 0
    assert Event(bench.app, None, b"", None, first).ack()
    assert bench.committable() == 2


async def test_acknowledging_twice_counts_once() -> None:
    bench = Bench()
    (message,) = await bench.hand_out(0)
    assert bench.consumer.ack(message)
    assert not bench.consumer.ack(message)
    assert bench.consumer.in_flight_bytes == 0


async def test_an_acknowledgement_from_before_a_rebalance_changes_nothing() -> None:
    bench = Bench()
    (message,) = await bench.hand_out(0)
    bench.app.consumer_generation_id = 2
    assert not bench.consumer.ack(message)
    assert bench.committable() == 0


async def test_a_record_fetched_before_a_rebalance_is_not_handed_out_after_it() -> None:
    bench = Bench()
    bench.app.consumer_generation_id = 2
    await bench.hand_out(0)
    assert bench.handed_out == []
    assert bench.committable() is None


async def test_between_a_reset_and_the_seek_nothing_is_handed_out_nor_committed() -> None:
    bench = Bench()
    (message,) = await bench.hand_out(40)
    await bench.consumer.perform_seek()
    await bench.hand_out(41)
    assert [message.offset for message in bench.handed_out] == [40]
    assert not bench.consumer.ack(message)
    assert bench.committable() is None


async def test_while_the_flow_stands_nothing_is_handed_out() -> None:
    bench = Bench()
    bench.consumer.stop_flow()
    await bench.hand_out(0)
    assert bench.handed_out == []


async def test_a_flow_resumed_too_late_by_an_older_rebalance_stays_closed() -> None:
    bench = Bench()
    await bench.consumer.on_partitions_revoked({PLACE})
    bench.consumer.resume_flow()
    bench.place()
    await bench.hand_out(101)
    assert bench.handed_out == []
    assert bench.committable() is None
    await bench.consumer.on_partitions_assigned({PLACE}, 1)
    bench.consumer.resume_flow()
    bench.place()
    await bench.hand_out(18)
    assert bench.committable() == 18


async def test_a_record_of_a_partition_without_ledger_asks_for_a_seek() -> None:
    bench = Bench()
    bench.consumer._ledgers = {}
    await bench.hand_out(7)
    assert bench.handed_out == []
    assert bench.consumer._seek_due


async def test_a_gap_is_no_reason_to_stop() -> None:
    bench = Bench()
    for message in await bench.hand_out(3, 4, 900):
        bench.consumer.ack(message)
    assert bench.committable() == 901


async def test_faust_is_told_of_no_read_offset_so_that_it_drops_nothing() -> None:
    bench = Bench()
    bench.consumer._read_offset[PLACE] = 500
    assert bench.consumer._read_offset[PLACE] is None


async def test_bytes_in_flight_are_bounded() -> None:
    bench = Bench(buffer_bytes=250)
    first, _second = await bench.hand_out(0, 1)
    third = asyncio.create_task(bench.hand_out(2))
    for _ in range(5):
        await asyncio.sleep(0)
    assert [message.offset for message in bench.handed_out] == [0, 1]
    bench.consumer.ack(first)
    await asyncio.wait_for(third, 1)
    assert [message.offset for message in bench.handed_out] == [0, 1, 2]
    assert bench.consumer.in_flight_bytes == 200


async def test_a_record_larger_than_the_bound_passes_alone() -> None:
    bench = Bench(buffer_bytes=50)
    await asyncio.wait_for(bench.hand_out(0), 1)
    assert bench.consumer.in_flight_bytes == 100


@pytest.mark.parametrize(
    ("acknowledged", "committable"), [((), 0), ((1, 2), 0), ((0,), 1), ((0, 2), 1), ((0, 1, 2), 3)]
)
async def test_the_lowest_unfinished_offset_is_what_may_be_committed(
    acknowledged: tuple[int, ...], committable: int
) -> None:
    bench = Bench()
    messages = await bench.hand_out(0, 1, 2)
    for n in acknowledged:
        bench.consumer.ack(messages[n])
    assert bench.committable() == committable


async def test_a_fetch_that_comes_back_while_the_flow_stands_is_made_again() -> None:
    bench = Bench()

    class FetchedTooLate(SafeConsumer):
        async def _getmany(self, active_partitions: Any, timeout: float) -> Any:  # noqa: ASYNC109
            self.stop_flow()
            return {PLACE: ["a record"]}

    consumer: Any = FetchedTooLate(
        bench.app.transport, bench._keep, on_partitions_revoked=None, on_partitions_assigned=None
    )
    consumer._ledgers, consumer._seek_due, consumer._active_partitions = {PLACE: Ledger(next=86)}, False, {PLACE}
    assert [item async for item in consumer.getmany(1.0)] == []
    assert consumer._seek_due


@pytest.mark.parametrize(
    ("position", "begins", "end", "lag"),
    [
        (None, 5, 9, 4),  # nothing was handed out, nor ever committed
        (None, 5, 5, 0),
        (7, 5, 9, 2),
        (None, None, 9, None),  # where it begins is not known
        (7, 7, None, None),  # nothing was fetched
    ],
)
async def test_lag_counts_from_what_may_be_committed_else_from_where_the_partition_begins(
    position: int | None, begins: int | None, end: int | None, lag: int | None
) -> None:
    bench = Bench()

    class Assigned(SafeConsumer):
        def assignment(self) -> set[TP]:
            return {PLACE}

        def highwater(self, tp: TP) -> Any:
            return end

    consumer: Any = Assigned(bench.app.transport, bench._keep, on_partitions_revoked=None, on_partitions_assigned=None)
    consumer._ledgers = {PLACE: Ledger(next=position)}
    consumer._begins = {} if begins is None else {PLACE: begins}

    assert consumer.lag() == ({} if lag is None else {(TOPIC, 0): lag})
