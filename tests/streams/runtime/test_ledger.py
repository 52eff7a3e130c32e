"""The offset ledger: nothing unfinished is ever committed over."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from streams.runtime.ledger import Ledger
from tests.examples import examples


def ledger_of(*offsets: int, start: int | None = None) -> Ledger:
    ledger = Ledger(next=start)
    for offset in offsets:
        ledger.hand_out(offset, now=float(offset))
    return ledger


def test_a_partition_never_read_has_no_position() -> None:
    assert Ledger().position() is None


def test_where_all_is_finished_the_position_is_the_next_offset() -> None:
    ledger = ledger_of(5, 6, 7)
    for offset in (7, 5, 6):
        assert ledger.finish(offset)
    assert ledger.position() == 8


def test_the_lowest_unfinished_record_holds_the_position() -> None:
    ledger = ledger_of(0, 1, 2, 3)
    for offset in (1, 2, 3):
        ledger.finish(offset)
    assert ledger.position() == 0
    assert ledger.oldest() == (0, 0.0)


def test_gaps_are_counted_and_nothing_else() -> None:
    ledger = ledger_of(10, 11, 40, start=4)
    for offset in (10, 11, 40):
        ledger.finish(offset)
    assert ledger.gaps == 6 + 28
    assert ledger.position() == 41


def test_finishing_twice_or_what_was_never_handed_out_changes_nothing() -> None:
    ledger = ledger_of(3)
    assert not ledger.finish(4)
    assert ledger.finish(3)
    assert not ledger.finish(3)
    assert ledger.position() == 4


def test_a_repeat_of_a_finished_prefix_does_not_lower_the_position() -> None:
    ledger = ledger_of(0, 1, 2)
    for offset in (0, 1, 2):
        ledger.finish(offset)
    assert ledger.position() == 3
    ledger.hand_out(1, now=9.0)
    assert ledger.repeats == 1
    assert ledger.position() == 3


def test_a_repeat_above_the_position_must_be_finished_again() -> None:
    ledger = ledger_of(0, 1, 2)
    ledger.finish(2)
    ledger.hand_out(2, now=9.0)
    ledger.finish(0)
    ledger.finish(1)
    assert ledger.position() == 2
    ledger.finish(2)
    assert ledger.position() == 3


class LedgerAgainstAModel(RuleBasedStateMachine):
    """Any mix of deliveries (with gaps and repeats) and finishes: the position is right, and never falls."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.unfinished: set[int] = set()
        self.highest = -1
        self.reached = -1

    @rule(gap=st.sampled_from([0, 0, 0, 1, 17]))
    def next_record(self, gap: int) -> None:
        offset = self.highest + 1 + gap
        self.ledger.hand_out(offset, now=0.0)
        self.unfinished.add(offset)
        self.highest = offset

    @rule(back=st.integers(0, 6))
    def record_again(self, back: int) -> None:
        offset = self.highest - back
        if offset < 0:
            return
        self.ledger.hand_out(offset, now=0.0)
        if offset >= self.reached:
            self.unfinished.add(offset)

    @rule(data=st.data())
    def finish_one(self, data: st.DataObject) -> None:
        if self.unfinished:
            offset = data.draw(st.sampled_from(sorted(self.unfinished)))
            assert self.ledger.finish(offset)
            self.unfinished.discard(offset)

    @invariant()
    def position_is_the_lowest_unfinished_and_never_falls(self) -> None:
        position = self.ledger.position()
        if self.highest < 0:
            assert position is None
            return
        assert position is not None
        assert position == (min(self.unfinished) if self.unfinished else self.highest + 1)
        assert position >= self.reached
        assert self.ledger.n_unfinished == len(self.unfinished)
        self.reached = position


LedgerAgainstAModel.TestCase.settings = examples(150, steps=40)
TestLedgerAgainstAModel = LedgerAgainstAModel.TestCase
