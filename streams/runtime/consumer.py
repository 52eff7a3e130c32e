"""Faust's Kafka consumer with our acknowledgement: nothing unfinished is ever committed over.

This is the seam to Faust: a transport that makes our consumer, set as `app.transport`. Every private name of Faust
that is touched here is pinned by `tests/streams/runtime/test_seam.py`. Valid only for streams read by
`noack().events()` with raw values, without tables and transactions, and with the eager assignor.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import structlog
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.runtime.ledger import Ledger

_COMMIT_LIMIT_S = 5.0
_POLL_WHEN_FULL_S = 0.02
_POLL_BESIDE_FULL_S = 0.05
_log = structlog.get_logger(__name__)


class Flow(Protocol):
    """What works on the records that the consumer hands out."""

    async def drain(self) -> None:
        """Stop within bounded time: partitions are being revoked, or the process stops."""
        ...

    async def restart(self) -> None:
        """Begin anew: partitions were assigned, and all that is not committed comes again."""
        ...

    async def begin(self, positions: Mapping[TP, int]) -> None:
        """Learn, before the first record comes, where each partition begins: the committed offset; 0 where none is."""
        ...


class _Forgetful(dict[Any, Any]):
    """Faust's map of read offsets, kept empty: from it Faust would drop records and step over gaps."""

    def __getitem__(self, key: Any) -> None:
        return None

    def __setitem__(self, key: Any, value: Any) -> None:
        return


class SafeConsumer(driver.Consumer):
    """Commits the lowest unfinished offset of each partition, and holds a bounded number of bytes in flight.

    Attributes:
        fetched_at: monotonic time when a record came last, or of the last assignment.
        progressed_at: monotonic time of the last successful commit, or when there was last nothing to commit.
    """

    def __init__(self, transport: "SafeTransport", callback: Callable[[Any], Awaitable[None]], *args: Any, **kw: Any):
        self._flow, self._buffer_bytes = transport.flow, transport.buffer_bytes
        self._ledgers: dict[TP, Ledger] = {}
        self._committed: dict[TP, int] = {}
        self._begins: dict[TP, int] = {}
        self._paused_by_us: set[TP] = set()
        self._seek_due = True
        self._rejoining = False
        self._in_flight_bytes = 0
        self._room = asyncio.Event()
        self.fetched_at = self.progressed_at = time.monotonic()

        async def hand_out(message: Any) -> None:
            while self._in_flight_bytes and self._in_flight_bytes + _size(message) > self._buffer_bytes:
                self._room.clear()
                await self._room.wait()
            ledger = self._ledgers.get(message.tp)
            if ledger is None or self._outdated(message.generation_id):
                self._seek_due = True
                return
            self.fetched_at = time.monotonic()
            self._in_flight_bytes += _size(message)
            ledger.hand_out(message.offset, self.fetched_at)
            await callback(message)

        super().__init__(transport, hand_out, *args, **kw)
        self._read_offset = _Forgetful()

    # --- acknowledging and committing -------------------------------------------------------------

    def ack(self, message: Any) -> bool:
        """Take note that a record is finished; one from before a rebalance changes nothing, as it comes again."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        if message.generation_id != self.app.consumer_generation_id:
            return False
        ledger = self._ledgers.get(message.tp)
        if ledger is None or not ledger.finish(message.offset):
            return False
        self._in_flight_bytes = max(0, self._in_flight_bytes - _size(message))
        self._room.set()
        self._n_acked += 1
        return True

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in list(self._ledgers) if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: TP) -> int | None:
        ledger = self._ledgers.get(tp)
        return ledger.position() if ledger else None

    def _should_commit(self, tp: TP, offset: int) -> bool:
        return offset > self._committed.get(tp, -1)

    async def _commit_offsets(self, offsets: Mapping[TP, int], start_new_transaction: bool = True) -> bool:
        ledgers = self._ledgers
        did: bool = await super()._commit_offsets(offsets, start_new_transaction=start_new_transaction)
        if did and ledgers is self._ledgers:
            self._committed.update(offsets)
            self.progressed_at = time.monotonic()
        return did

    # --- rebalancing and stopping -----------------------------------------------------------------

    async def wait_empty(self) -> None:
        """End the work in bounded time and commit it; Faust's own waits for ever for a handler that hangs."""
        await self._flow.drain()
        # the first may only wait for an older commit that runs already
        for _ in range(2):
            task = asyncio.ensure_future(self.commit_and_end_transactions())
            done, _running = await asyncio.wait({task}, timeout=_COMMIT_LIMIT_S)
            if not done:
                _log.error("last_commit_takes_too_long", limit_s=_COMMIT_LIMIT_S)
                return

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish and commit what runs, then forget everything: with the eager assignor all partitions go."""
        self._rejoining = True
        self.stop_flow()
        await super().on_partitions_revoked(revoked)
        self._reset()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Take up what was assigned; it may be nothing."""
        self._rejoining = False
        await super().on_partitions_assigned(assigned, generation_id)
        if not assigned:
            await self._flow.restart()

    def resume_flow(self) -> None:
        """Hand out records again, unless partitions are gone meanwhile.

        Where one rebalance follows upon another, Faust resumes the flow at the end of the first, though the second has
        revoked the partitions already: records would be handed out, and committed, from where the old positions stood.
        """
        if not self._rejoining:
            super().resume_flow()

    async def perform_seek(self) -> None:
        """Let the fetching loop seek before it fetches again, so that no fetch runs beside a seek.

        Otherwise a fetch begun before the rebalance may come back after the seek and before the flow resumes: what it
        brings is left out, and the next fetch goes on behind it.
        """
        self._reset()

    def _reset(self) -> None:
        self._seek_due = True
        self._ledgers, self._committed, self._in_flight_bytes = {}, {}, 0
        self._room.set()

    def _outdated(self, generation: int) -> bool:
        """Whether what was fetched is to be left out: positions are about to be reset, so it comes again."""
        return self._seek_due or not self.flow_active or self.app.consumer_generation_id != generation

    async def _seek_to_committed(self) -> None:
        """Go to the committed offsets, or to the beginning where there are none. Nothing is being fetched meanwhile."""
        generation = self.app.consumer_generation_id
        await self._flow.restart()
        ledgers, committed, begins, rewind = {}, {}, {}, []
        for place, offset in (await self.seek_to_committed()).items():
            tp = TP(place.topic, place.partition)
            known = offset is not None and offset >= 0
            ledgers[tp] = Ledger(next=offset if known else None)
            if known:
                committed[tp] = offset
            if not known or offset == 0:
                rewind.append(place)
        if rewind:
            # aiokafka's seek_to_committed leaves out partitions whose offset is None or 0
            await self._thread.seek_to_beginning(*rewind)
        for tp in ledgers:
            state = self._fetch_state(tp)
            if state is not None:
                begins[tp] = state.position
        paused = self._paused_by_us & set(ledgers)
        if paused:
            # aiokafka forgets pauses when partitions are assigned
            await self.pause_native(*paused)
        await self._flow.begin({tp: committed.get(tp, 0) for tp in ledgers})
        if self.flow_active and generation == self.app.consumer_generation_id and set(ledgers) == self.assignment():
            self._ledgers, self._committed, self._begins, self._seek_due = ledgers, committed, begins, False
            self.fetched_at = self.progressed_at = time.monotonic()

    # --- fetching ---------------------------------------------------------------------------------

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109
        """Yield what was fetched. Faust's own drops records of partitions paused meanwhile, and commits over them."""
        records, _active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        for tp, record in self.scheduler.iterate(records or {}):
            if self.should_stop or self._outdated(generation):
                self._seek_due = True
                return
            yield tp, self._to_message(tp, record)

    async def _wait_next_records(self, timeout: float) -> tuple[Any, Any]:  # noqa: ASYNC109
        # Faust's own sleeps a whole second when every partition's buffer is full
        if not self.flow_active:
            await self.wait(self.can_resume_flow.wait())
        active = self._get_active_partitions()
        if active and self._seek_due:
            try:
                await self._seek_to_committed()
            except Exception as error:
                # another rebalance, or a broker that is away; the watchdog bites when it stays so
                _log.warning("seek_failed", error=repr(error))
        if not active or self._seek_due:
            await self.sleep(_POLL_WHEN_FULL_S)
            return {}, active
        wait = _POLL_BESIDE_FULL_S if self._buffered_partitions else timeout
        return await self._getmany(active_partitions=active, timeout=wait), active

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust's own check fails while a position is being reset; `watchdog` looks after the stage."""

    def begin_anew(self) -> None:
        """Go back to the committed offsets, as after an assignment."""
        self._seek_due = True

    # --- pausing ----------------------------------------------------------------------------------

    async def pause_native(self, *tps: TP) -> None:
        """Fetch no more from these partitions, also after a rebalance; what is buffered still comes."""
        self._paused_by_us.update(tps)
        await self._thread.call_thread(self._call_aiokafka, "pause", tps)

    async def resume_native(self, *tps: TP) -> None:
        """Fetch from these partitions again."""
        self._paused_by_us.difference_update(tps)
        await self._thread.call_thread(self._call_aiokafka, "resume", tps)

    async def _call_aiokafka(self, what: str, tps: tuple[TP, ...]) -> None:
        consumer = self._thread._ensure_consumer()
        held = consumer.assignment()
        getattr(consumer, what)(*[tp for tp in map(driver.ensure_aiokafka_TP, tps) if tp in held])

    # --- what others may ask ----------------------------------------------------------------------

    async def ends(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Ask for the offset behind the last record of partitions."""
        found = await self.highwaters(*map(driver.ensure_aiokafka_TP, tps))
        return {TP(place.topic, place.partition): end for place, end in found.items()}

    def lag(self) -> dict[tuple[str, int], int]:
        """Return, per (topic, partition) held, records between the committable position and the end as last fetched."""
        lag = {}
        for tp in self.assignment():
            end, ledger = self.highwater(tp), self._ledgers.get(tp)
            if end is None or ledger is None:
                continue
            position = ledger.position()
            if position is None:
                # nothing was handed out, nor ever committed
                position = self._begins.get(tp)
            if position is not None:
                lag[tp.topic, tp.partition] = max(0, end - position)
        return lag

    def unfetched(self) -> int:
        """Return how many offsets, in all partitions held and not paused, lie before the end and were not fetched."""
        unfetched = 0
        for tp in set(self.assignment()) - self._paused_by_us:
            state = self._fetch_state(tp)
            if state is not None and state.highwater is not None:
                unfetched += max(0, state.highwater - state.position)
        return unfetched

    def _fetch_state(self, tp: TP) -> Any:
        """Return aiokafka's state of a partition; None while it does not know where to fetch."""
        held = self._thread._ensure_consumer()._subscription.subscription.assignment
        state = held.state_value(driver.ensure_aiokafka_TP(tp)) if held else None
        return state if state is not None and state.has_valid_position else None

    def commits_stuck_s(self) -> float:
        """Return for how long finished work has waited to be committed, seconds; 0 while there is none."""
        if all(not self._should_commit(tp, self._new_offset(tp) or -1) for tp in self._ledgers):
            self.progressed_at = time.monotonic()
        return time.monotonic() - self.progressed_at

    def forgive(self) -> None:
        """Count the time without progress from now on."""
        self.fetched_at = self.progressed_at = time.monotonic()

    def ledgers(self) -> Mapping[TP, Ledger]:
        """Return the ledger of each partition held."""
        return self._ledgers

    @property
    def in_flight_bytes(self) -> int:
        """Keys and values of records handed out and not finished."""
        return self._in_flight_bytes


def _size(message: Any) -> int:
    return len(message.key or b"") + len(message.value or b"")


class SafeTransport(driver.Transport):
    """Faust's Kafka transport, making our consumer."""

    def __init__(self, url: Any, app: Any, *, consumer: type[SafeConsumer], flow: Flow, buffer_bytes: int) -> None:
        super().__init__(url, app)
        self._consumer = consumer
        self.flow = flow
        self.buffer_bytes = buffer_bytes

    def create_consumer(self, callback: Any, **kwargs: Any) -> SafeConsumer:
        """Make the consumer of the App."""
        return self._consumer(self, callback, loop=self.loop, **kwargs)
