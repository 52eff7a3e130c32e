"""What passes of a log of replies, step by step: a reader that breaks off anywhere hears what one that stays hears."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.order import TERMINAL, ReplyOrder
from schemas.events import Answer, Reply, Scores
from tests.examples import examples

TEXT = ("token", "answer")


def said(type: str, attempt: int, seq: int, **fields: Any) -> Reply:
    return Reply(query="q", tenant="acme", type=type, attempt=attempt, seq=seq, **fields)


class Reader:
    """Reads a log, and can go on after the last reply that passed, as a client does with `Last-Event-ID`."""

    def __init__(self) -> None:
        self.order, self.next, self.last = ReplyOrder(), 0, -1
        self.passed: list[tuple[int, int]] = []
        self.ends: list[str] = []

    def read(self, log: list[Reply]) -> None:
        reply = log[self.next]
        self.next += 1
        verdict = self.order.admit(reply)
        if verdict == "drop" or reply.type == "score":
            return
        if reply.type in TERMINAL:
            self.ends.append(reply.type)
        if reply.type in TEXT:
            if verdict == "reset":
                self.passed = []
            self.passed.append((reply.attempt, reply.seq))
        self.last = self.next - 1

    def resume(self, log: list[Reply]) -> None:
        """Break off, and come again with the place of the last that passed; or from the beginning, where none did."""
        if self.last < 0:
            self.order, self.next = ReplyOrder(), 0
        else:
            self.order, self.next = ReplyOrder.after(log[self.last]), self.last + 1


class OrderMachine(RuleBasedStateMachine):
    """Attempts that take over from each other and go on as zombies, replies that come again, and two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Reply] = [said("sources", 0, 0)]
        self.written = [0]
        self.ended = ""
        self.steady, self.broken, self.late = Reader(), Reader(), Reader()

    @precondition(lambda self: not self.ended)
    @rule()
    def take_over(self) -> None:
        if len(self.written) < 5:
            self.written.append(0)

    @precondition(lambda self: len(self.written) > 1)
    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        # an attempt that was taken over may go on after the end, the one that ended may not
        attempts = range(1, len(self.written) - bool(self.ended))
        if attempts:
            attempt = data.draw(st.sampled_from(attempts))
            self.log.append(said("token", attempt, self.written[attempt], token="x"))
            self.written[attempt] += 1

    @rule(data=st.data())
    def write_again(self, data: st.DataObject) -> None:
        self.log.append(data.draw(st.sampled_from(self.log)))

    @precondition(lambda self: not self.ended and len(self.written) > 1)
    @rule(end=st.sampled_from(["done", "done", "error", "cancelled"]), score=st.booleans())
    def end(self, end: str, score: bool) -> None:
        self.ended, attempt = end, len(self.written) - 1
        seq = self.written[attempt]
        if end == "done":
            self.log += [said("answer", attempt, seq, answer=Answer(text="x")), said("done", attempt, seq + 1)]
        else:
            self.log.append(said(end, attempt, -1))
        if score:
            self.log.append(said("score", attempt, -1, scores=Scores()))

    @rule(n=st.integers(1, 5))
    def read(self, n: int) -> None:
        for _ in range(min(n, len(self.log) - self.steady.next)):
            if not self.steady.ends:
                self.steady.read(self.log)

    @rule(n=st.integers(1, 5))
    def read_and_break_off(self, n: int) -> None:
        for _ in range(min(n, len(self.log) - self.broken.next)):
            if not self.broken.ends:
                self.broken.read(self.log)
        if not self.broken.ends:
            self.broken.resume(self.log)

    @rule(data=st.data())
    def read_what_retention_left(self, data: st.DataObject) -> None:
        self.late = Reader()
        self.late.next = data.draw(st.integers(0, len(self.log)))
        while self.late.next < len(self.log) and not self.late.ends:
            self.late.read(self.log)

    @invariant()
    def who_misses_the_beginning_hears_nothing_of_an_attempt(self) -> None:
        assert [seq for _, seq in self.late.passed] == list(range(len(self.late.passed)))

    @invariant()
    def a_reader_has_the_beginning_of_one_attempt_without_a_gap(self) -> None:
        for reader in (self.steady, self.broken):
            attempts = {attempt for attempt, _ in reader.passed}
            assert len(attempts) <= 1
            assert [seq for _, seq in reader.passed] == list(range(len(reader.passed)))
            attempt = next(iter(attempts), 0)
            begun = [reply.attempt for reply in self.log[: reader.next] if reply.type in TEXT and reply.seq == 0]
            assert attempt == max(begun, default=0)

    @invariant()
    def no_end_passes_but_the_one_that_was_stored(self) -> None:
        for reader in (self.steady, self.broken):
            assert set(reader.ends) <= {self.ended}

    @invariant()
    def who_breaks_off_hears_what_who_stays_hears(self) -> None:
        """Both read to the end of the log; a copy each, for the readers of the rules stay where they are."""
        steady, broken = Reader(), Reader()
        while steady.next < len(self.log) and not steady.ends:
            steady.read(self.log)
        while broken.next < len(self.log) and not broken.ends:
            before = broken.last
            broken.read(self.log)
            if broken.last > before and not broken.ends:
                broken.resume(self.log)
        assert (broken.passed, broken.ends) == (steady.passed, steady.ends)
        if steady.ends == ["done"]:
            last = len(self.written) - 1
            assert steady.passed == [(last, seq) for seq in range(self.written[last] + 1)]


OrderMachine.TestCase.settings = examples(150, steps=40)
TestOrder = OrderMachine.TestCase
