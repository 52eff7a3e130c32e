"""The consumer under any mix of ends, commits, rebalances, gaps and repeats: no commit passes an unfinished record."""

import asyncio
from functools import partial

from faust.types.tuples import ConsumerMessage
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.runtime.ledger import Ledger
from tests.examples import try_out
from tests.streams.runtime.test_consumer import PLACE, Bench


class ConsumerMachine(RuleBasedStateMachine):
    """One partition of a log with gaps, read by a consumer that loses it and gets it back.

    `log` are the offsets that hold a record; `done` those that some handler ended well; `holding` those that must be
    done (again) before a commit passes them; `stored` is what the broker has as the committed offset.
    """

    def __init__(self, runner: asyncio.Runner) -> None:
        super().__init__()
        self.runner = runner
        self.bench = runner.run(self.make())
        self.log: list[int] = []
        self.done: set[int] = set()
        self.stored: int | None = None
        self.next = 0
        self.generation = 1
        self.running: list[ConsumerMessage] = []
        self.holding: set[int] = set()
        self.late: list[ConsumerMessage] = []

    async def make(self) -> Bench:
        return Bench(buffer_bytes=1_000_000)

    def end_of_log(self) -> int:
        return self.log[-1] + 1 if self.log else 0

    @rule(gap=st.sampled_from([0, 0, 0, 1, 30]))
    def produce(self, gap: int) -> None:
        self.log.append(self.end_of_log() + gap)

    @precondition(lambda self: self.log and self.next <= self.log[-1])
    @rule(n=st.integers(1, 4))
    def fetch(self, n: int) -> None:
        self.hand_out([offset for offset in self.log if offset >= self.next][:n])

    @precondition(lambda self: self.next > 0)
    @rule(data=st.data())
    def fetch_again(self, data: st.DataObject) -> None:
        """What aiokafka gives twice, after a fetch that overlapped a seek."""
        read = [offset for offset in self.log if offset < self.next]
        if read:
            self.hand_out([data.draw(st.sampled_from(read[-6:]))])

    def hand_out(self, offsets: list[int]) -> None:
        messages = [self.bench.message(offset, self.generation) for offset in offsets]
        for message in messages:
            before = len(self.bench.handed_out)
            if message.offset >= (self.committable() or 0):
                self.holding.add(message.offset)
            self.runner.run(self.pass_on(message))
            assert len(self.bench.handed_out) == before + 1
            self.running.append(message)
            self.next = max(self.next, message.offset + 1)

    async def pass_on(self, message: ConsumerMessage) -> None:
        await self.bench.consumer.callback(message)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        message = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        self.done.add(message.offset)
        self.holding.discard(message.offset)
        self.bench.consumer.ack(message)

    @precondition(lambda self: self.late)
    @rule(data=st.data())
    def finish_late(self, data: st.DataObject) -> None:
        """A handler of an older assignment ends: it may have done its work, and acknowledges nothing."""
        message = self.late.pop(data.draw(st.integers(0, len(self.late) - 1)))
        before = self.committable()
        assert not self.bench.consumer.ack(message)
        assert self.committable() == before

    @rule(works=st.booleans())
    def commit(self, works: bool) -> None:
        offset = self.committable()
        if offset is not None and self.bench.consumer._should_commit(PLACE, offset) and works:
            assert self.stored is None or offset > self.stored
            self.stored = offset
            self.bench.consumer._committed[PLACE] = offset

    @rule()
    def rebalance(self) -> None:
        """All partitions go; this one comes back, and is read from the committed offset on."""
        self.late += self.running
        self.running, self.holding = [], set()
        self.generation += 1
        self.bench.app.consumer_generation_id = self.generation
        self.runner.run(self.bench.consumer.perform_seek())
        assert self.committable() is None
        self.bench.consumer._ledgers = {PLACE: Ledger(next=self.stored)}
        self.bench.consumer._committed = {} if self.stored is None else {PLACE: self.stored}
        self.bench.consumer._seek_due = False
        self.next = self.stored or 0

    def committable(self) -> int | None:
        return self.bench.consumer._new_offset(PLACE)

    @invariant()
    def no_commit_passes_an_unfinished_record(self) -> None:
        for offset in (self.committable(), self.stored):
            assert all(each in self.done for each in self.log if each < (offset or 0))

    @invariant()
    def a_record_that_came_again_holds_the_commit_until_it_is_done_again(self) -> None:
        assert (self.committable() or 0) <= min(self.holding, default=self.end_of_log())

    @invariant()
    def what_is_done_up_to_the_end_can_be_committed(self) -> None:
        if self.next and not self.running and self.bench.consumer.ledgers():
            assert self.committable() == self.next


def test_no_mix_of_rebalances_gaps_and_repeats_commits_over_what_is_not_finished() -> None:
    with asyncio.Runner() as runner:
        try_out(partial(ConsumerMachine, runner), 150, steps=60)
