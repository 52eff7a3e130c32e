import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from schemas.events import Answer, Evidence, EvidenceRetrieved, Hit, QueryFinished, Reply
from schemas.ids import QueryId
from streams.errors import Transient, Unprocessable
from streams.generate.draft import Stop
from streams.generate.extractive import Extractive
from streams.generate.handler import Generate
from streams.generate.observer import Claiming
from streams.ports import Renewed
from streams.runtime.record import CLAIMED, FLUSH, Claim, Flush, Inbound, Origin, Outbound
from tests.doubles.question_store import MemoryCancellations, MemoryQuestions, QuestionRow
from tests.streams.generate.evidence import passage
from tests.streams.runtime.waiting import until

Q1 = QueryId("q1")
EVIDENCE = [passage(("First the gate pump is started.", 0.8), ("Then the gate is opened by a lever.", 0.8))]
TEXT = "First the gate pump is started. [1] Then the gate is opened by a lever. [2]"
Out = Outbound | Flush | Claim


@dataclass(frozen=True)
class Liar:
    """Streams one text and answers another."""

    async def __call__(self, question: str, evidence: Sequence[Evidence]) -> AsyncIterator[str | Answer]:
        yield "One thing."
        yield Answer(text="Another.")


@dataclass
class Slow:
    """Says what the test tells it to say, when it does; `""` ends the text."""

    words: "asyncio.Queue[str | Exception]" = field(default_factory=asyncio.Queue)
    asked: int = 0
    stopped: bool = False

    async def __call__(self, question: str, evidence: Sequence[Evidence]) -> AsyncIterator[str | Answer]:
        self.asked += 1
        told = ""
        try:
            while word := await self.words.get():
                if isinstance(word, Exception):
                    raise word
                told += word
                yield word
        except (asyncio.CancelledError, GeneratorExit):
            self.stopped = True
            raise
        yield Answer(text=told)

    def say(self, *words: str | Exception) -> None:
        for word in words:
            self.words.put_nowait(word)


@dataclass
class Ears:
    """An observer that notes what it hears."""

    heard: list[str] = field(default_factory=list)

    def claimed(self, how: Claiming) -> None:
        self.heard.append(how)

    def told(self) -> None:
        self.heard.append("told")

    def stopped(self, why: Stop, asked_s: float | None = None) -> None:
        self.heard.append(why if asked_s is None else f"{why} after {asked_s} s")


class Stand:
    """The handler with doubles around it, and one question that may be answered."""

    def __init__(self, row: QuestionRow | None = None, **changes: Any) -> None:
        self.row = row or QuestionRow()
        self.questions, self.cancellations, self.ears = MemoryQuestions(), MemoryCancellations(), Ears()
        self.questions.rows[Q1] = self.row
        ports: dict[str, Any] = {
            "questions": self.questions,
            "answerer": Extractive(margin=0.4),
            "cancellations": self.cancellations,
            "observer": self.ears,
            "lease_s": 60.0,
            "pause_s": 0.0,
        }
        self.generate = Generate(**(ports | changes))
        self.outs: list[Out] = []

    async def run(self, record: Inbound[EvidenceRetrieved] | None = None) -> list[Out]:
        async with aclosing(cast(Any, self.generate(record or retrieved()))) as outs:
            async for out in outs:
                self.outs.append(out)
        return self.outs

    def begin(self) -> "asyncio.Task[list[Out]]":
        return asyncio.create_task(self.run())

    @property
    def replies(self) -> list[Reply]:
        return [out.event for out in self.outs if isinstance(out, Outbound) and isinstance(out.event, Reply)]

    @property
    def told(self) -> str:
        return "".join(reply.token or "" for reply in self.replies)

    @property
    def results(self) -> list[QueryFinished]:
        return [out.event for out in self.outs if isinstance(out, Outbound) and isinstance(out.event, QueryFinished)]

    def nudge(self) -> None:
        self.cancellations.watched[Q1].set()

    async def until_told(self, text: str) -> None:
        await until(lambda: self.told == text)


def retrieved(evidence: Sequence[Evidence] = EVIDENCE, query: str = "q1") -> Inbound[EvidenceRetrieved]:
    event = EvidenceRetrieved(
        query=query,
        tenant="acme",
        text="How is the gate opened?",
        reply_partition=1,
        deadline_ms=9_000,
        asked_ms=5_000,
        generation="g1",
        evidence=list(evidence),
        user="ann",
        retrieve_ms=12.0,
        groups=["staff"],
    )
    origin = Origin(topic="rag.retrievals.v1", topic_id="t", partition=0, offset=0)
    return Inbound(key=b"q1", event=event, raw=b"{}", origin=origin, timestamp_ms=0)


# --- the usual way --------------------------------------------------------------------------------


async def test_claim_then_tokens_then_the_stored_end_and_the_result() -> None:
    stand = Stand()

    outs = await stand.run()

    assert outs[0] is CLAIMED
    assert [(reply.type, reply.attempt, reply.seq) for reply in stand.replies] == [
        ("token", 1, 0),
        ("answer", 1, 1),
        ("done", 1, 2),
    ]
    assert stand.told == TEXT
    answer = stand.replies[1].answer
    assert answer is not None
    assert answer.text == TEXT
    assert stand.replies[2].elapsed_ms == 40.0
    hit = Hit(
        document=EVIDENCE[0].document,
        version=EVIDENCE[0].version,
        chunk=EVIDENCE[0].chunk,
        score=EVIDENCE[0].score,
        scores=EVIDENCE[0].scores,
        sentence_scores=[0.8, 0.8],
    )
    assert stand.results == [
        QueryFinished(
            query="q1",
            tenant="acme",
            text="How is the gate opened?",
            outcome="done",
            attempt=1,
            generation="g1",
            reply_partition=1,
            asked_ms=5_000,
            finished_ms=5_040,
            user="ann",
            groups=["staff"],
            hits=[hit],
            answer=answer,
            retrieve_ms=12.0,
        )
    ]
    row = stand.row
    assert (row.outcome, row.terminal_seq, row.answer, row.hits, row.retrieve_ms) == ("done", 2, answer, [hit], 12.0)
    assert row.published
    assert stand.ears.heard == ["first", "told"]


async def test_nothing_is_stored_before_the_tokens_are_acknowledged_nor_called_published_before_the_end_is() -> None:
    stand, stored = Stand(), []
    async for out in stand.generate(retrieved()):
        if out is FLUSH:
            stored.append((stand.row.outcome, stand.row.published))

    assert stored == [(None, False), ("done", False)]
    assert stand.row.published


async def test_the_documents_that_do_not_say_end_the_question_too() -> None:
    stand = Stand()
    await stand.run(retrieved([]))

    assert [reply.type for reply in stand.replies] == ["token", "answer", "done"]
    assert stand.replies[1].answer is not None
    assert stand.replies[1].answer.abstained


async def test_what_comes_within_a_pause_is_told_together_but_the_first_word_at_once() -> None:
    slow = Slow()
    stand = Stand(answerer=slow, pause_s=60.0)
    running = stand.begin()

    slow.say("One")
    await stand.until_told("One")
    slow.say(" two", " three")
    await until(slow.words.empty)
    assert stand.told == "One"
    slow.say("")
    await asyncio.wait_for(running, 5)

    assert [reply.token for reply in stand.replies if reply.type == "token"] == ["One", " two three"]


async def test_a_provider_whose_answer_is_not_what_it_streamed_is_refused() -> None:
    with pytest.raises(Unprocessable, match="not the text that it streamed"):
        await Stand(answerer=Liar()).run()


async def test_a_record_without_a_value_is_nothing_to_answer() -> None:
    origin = Origin(topic="rag.retrievals.v1", topic_id="t", partition=0, offset=0)
    record: Inbound[EvidenceRetrieved] = Inbound(key=b"q1", event=None, raw=None, origin=origin, timestamp_ms=0)

    assert await Stand().run(record) == []


# --- claims ---------------------------------------------------------------------------------------


async def test_a_question_that_cannot_be_claimed_gets_nothing() -> None:
    for row in (
        QuestionRow(state="rejected"),
        QuestionRow(in_time=False),
        QuestionRow(state="finished", outcome="done"),
        QuestionRow(state="claimed", claimed_by="w2", attempt=1),
    ):
        stand = Stand(row)
        assert await stand.run() == []
        assert stand.ears.heard == ["refused"]


async def test_a_lapsed_claim_is_taken_over_as_the_next_attempt() -> None:
    stand = Stand(QuestionRow(state="claimed", claimed_by="w2", attempt=1, lapsed=True))

    await stand.run()

    assert {reply.attempt for reply in stand.replies} == {2}
    assert stand.ears.heard[0] == "taken_over"


async def test_a_question_whose_workers_died_three_times_is_refused_and_not_acknowledged() -> None:
    stand = Stand(QuestionRow(state="claimed", attempt=3, claimed_by="dead", lapsed=True, lapses=2))

    with pytest.raises(Unprocessable, match="3 workers died while they answered it") as refused:
        await stand.run()

    assert refused.value.reason == "kills_worker"
    assert stand.outs == []


async def test_of_questions_whose_workers_died_twice_one_at_a_time_is_answered() -> None:
    slow = Slow()
    stand = Stand(QuestionRow(state="claimed", attempt=2, claimed_by="dead", lapsed=True, lapses=1), answerer=slow)
    rows = stand.questions.rows
    rows[QueryId("q2")] = QuestionRow(state="claimed", attempt=2, claimed_by="dead", lapsed=True, lapses=1)
    first = stand.begin()
    await until(lambda: slow.asked == 1)
    second = asyncio.create_task(stand.run(retrieved(query="q2")))
    await until(lambda: rows[QueryId("q2")].lapses == 2)

    # who waits holds no claim, so it is not blamed for what ends the process now
    await until(lambda: rows[QueryId("q2")].claimed_by is None)
    assert slow.asked == 1
    slow.say("One.", "")
    await first
    await until(lambda: slow.asked == 2)
    slow.say("Two.", "")
    await second
    assert [row.outcome for row in rows.values()] == ["done", "done"]
    assert rows[QueryId("q2")].lapses == 2


async def test_a_question_that_waits_to_be_the_only_one_of_its_kind_waits_until_its_deadline() -> None:
    slow = Slow()
    stand = Stand(QuestionRow(state="claimed", attempt=2, claimed_by="dead", lapsed=True, lapses=1), answerer=slow)
    stand.questions.rows[QueryId("q2")] = replace(stand.row)
    first = stand.begin()
    await until(lambda: slow.asked == 1)
    stand.questions.left_s = 0.02

    await asyncio.wait_for(stand.run(retrieved(query="q2")), 2)

    assert slow.asked == 1
    slow.say("One.", "")
    await first


async def test_a_question_whose_workers_died_twice_is_answered() -> None:
    stand = Stand(QuestionRow(state="claimed", attempt=2, claimed_by="dead", lapsed=True, lapses=1))

    await stand.run()

    assert stand.told == TEXT


async def test_a_record_that_comes_twice_does_not_start_its_answer_again() -> None:
    slow = Slow()
    stand = Stand(answerer=slow)
    running = stand.begin()
    slow.say("One")
    await stand.until_told("One")

    assert [out async for out in stand.generate(retrieved())] == []
    slow.say("")
    await running

    assert (slow.asked, stand.row.attempt, stand.row.outcome) == (1, 1, "done")


async def test_a_failed_attempt_keeps_the_claim_and_the_next_one_claims_anew() -> None:
    slow = Slow()
    stand = Stand(answerer=slow)
    slow.say("One", Transient("the model is away"))
    with pytest.raises(Transient):
        await stand.run()
    assert (stand.row.state, stand.row.lapsed) == ("claimed", False)

    slow.say("Other", "")
    await stand.run()

    assert [(reply.attempt, reply.seq) for reply in stand.replies] == [(1, 0), (2, 0), (2, 1), (2, 2)]
    assert stand.row.answer == Answer(text="Other")
    assert stand.ears.heard[-2:] == ["again", "told"]


@pytest.mark.parametrize("where", ["while the model writes", "while the runtime publishes"])
async def test_a_handler_that_is_cancelled_stops_the_model_and_gives_its_claim_back(where: str) -> None:
    slow = Slow()
    stand = Stand(answerer=slow)
    slow.say("One")
    if where == "while the model writes":
        running = stand.begin()
        await stand.until_told("One")
        running.cancel()
        await asyncio.wait({running})
        assert running.cancelled()
    else:
        async with aclosing(cast(Any, stand.generate(retrieved()))) as outs:
            async for out in outs:
                if isinstance(out, Outbound):
                    break

    assert slow.stopped
    assert (stand.row.state, stand.row.lapsed) == ("claimed", True)


async def test_the_lease_is_renewed_while_the_model_writes() -> None:
    slow = Slow()
    stand = Stand(answerer=slow, lease_s=0.03)
    running = stand.begin()
    await until(lambda: slow.asked == 1)
    for _ in range(3):
        stand.row.lapsed = True
        await until(lambda: not stand.row.lapsed)
    slow.say("Yes.", "")
    await running

    assert stand.row.outcome == "done"


async def test_a_lost_claim_stops_the_model_and_tells_no_more() -> None:
    slow = Slow()
    stand = Stand(answerer=slow)
    running = stand.begin()
    slow.say("One")
    await stand.until_told("One")

    stand.row.attempt, stand.row.claimed_by = 2, "w2"
    stand.nudge()
    await asyncio.wait_for(running, 5)

    assert [reply.type for reply in stand.replies] == ["token"]
    assert slow.stopped
    assert stand.row.outcome is None
    assert stand.ears.heard[-1] == "lost"


async def test_a_claim_lost_in_the_last_moment_ends_nothing() -> None:
    stand = Stand()
    async for out in stand.generate(retrieved()):
        if out is FLUSH:
            stand.row.attempt, stand.row.claimed_by = 2, "w2"
        stand.outs.append(out)

    assert [reply.type for reply in stand.replies] == ["token"]
    assert stand.results == []
    assert stand.row.outcome is None


class AwayWhileRenewing(MemoryQuestions):
    """A store that is out of reach for renewals."""

    async def renew(self, query: QueryId, attempt: int) -> Renewed | None:
        raise Transient("away")


async def test_a_lease_that_cannot_be_renewed_in_time_counts_as_lost() -> None:
    slow, row = Slow(), QuestionRow()
    stand = Stand(row, answerer=slow, questions=AwayWhileRenewing(rows={Q1: row}), lease_s=0.03)
    slow.say("One")
    await asyncio.wait_for(stand.run(), 5)

    assert slow.stopped
    assert stand.ears.heard == ["first", "told", "lost"]


async def test_the_deadline_of_the_question_stops_the_model_and_tells_no_more() -> None:
    slow = Slow()
    stand = Stand(answerer=slow)
    stand.questions.left_s = 0.05
    slow.say("One")
    await asyncio.wait_for(stand.run(), 5)

    assert [reply.type for reply in stand.replies] == ["token"]
    assert slow.stopped
    assert stand.ears.heard == ["first", "told", "deadline"]


# --- cancelling -----------------------------------------------------------------------------------


def cancelled(stand: Stand, *, seq: int, text: str) -> None:
    """Check the end of a cancelled question."""
    last = stand.replies[-1]
    assert (last.type, last.seq, last.answer, last.elapsed_ms) == ("cancelled", seq, Answer(text=text), 40.0)
    assert stand.told == text
    assert [(result.outcome, result.answer) for result in stand.results] == [("cancelled", Answer(text=text))]
    row = stand.row
    assert (row.outcome, row.terminal_seq, row.answer, row.published) == ("cancelled", seq, Answer(text=text), True)


async def test_a_nudge_stops_the_model_and_keeps_the_text_that_was_told() -> None:
    slow = Slow()
    stand = Stand(answerer=slow, pause_s=60.0)
    running = stand.begin()
    slow.say("One")
    await stand.until_told("One")
    slow.say(" never told")

    stand.row.cancel_asked = True
    stand.nudge()
    await asyncio.wait_for(running, 5)

    assert slow.stopped
    cancelled(stand, seq=1, text="One")
    assert stand.ears.heard == ["first", "told", "cancelled after 0.02 s"]


async def test_a_nudge_without_a_cancel_in_the_row_changes_nothing() -> None:
    slow = Slow()
    stand = Stand(answerer=slow)
    running = stand.begin()
    slow.say("One")
    await stand.until_told("One")

    stand.nudge()
    await until(lambda: not stand.cancellations.watched[Q1].is_set())
    slow.say("")
    await running

    assert stand.row.outcome == "done"


async def test_a_cancel_whose_nudge_is_lost_is_heard_with_the_next_renewal() -> None:
    slow = Slow()
    stand = Stand(answerer=slow, lease_s=0.03)
    running = stand.begin()
    slow.say("One")
    await stand.until_told("One")

    stand.row.cancel_asked = True
    await asyncio.wait_for(running, 5)

    cancelled(stand, seq=1, text="One")


async def test_a_question_cancelled_before_its_claim_asks_no_model() -> None:
    slow = Slow()
    stand = Stand(QuestionRow(cancel_asked=True), answerer=slow)

    await stand.run()

    assert slow.asked == 0
    cancelled(stand, seq=0, text="")


async def test_a_cancel_that_comes_when_all_is_told_still_holds() -> None:
    stand = Stand()
    async for out in stand.generate(retrieved()):
        if out is FLUSH:
            stand.row.cancel_asked = True
        stand.outs.append(out)

    cancelled(stand, seq=1, text=TEXT)
