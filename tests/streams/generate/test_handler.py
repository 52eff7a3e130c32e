from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from schemas.events import Answer, Evidence, EvidenceRetrieved, Reply
from schemas.ids import QueryId
from streams.errors import Unprocessable
from streams.generate.extractive import Extractive
from streams.generate.handler import Generate
from streams.outcome import FailedQuestion
from streams.runtime.record import FLUSH, Flush, Inbound, Origin, Outbound
from streams.runtime.stage import DeadLetter
from tests.doubles.clock import FrozenClock
from tests.doubles.question_store import MemoryQuestions, QuestionRow
from tests.streams.generate.evidence import passage

Q1 = QueryId("q1")
EVIDENCE = [passage(("First the gate pump is started.", 0.8), ("Then the gate is opened by a lever.", 0.8))]
TEXT = "First the gate pump is started. [1] Then the gate is opened by a lever. [2]"


@dataclass(frozen=True)
class Liar:
    """Streams one text and answers another."""

    async def __call__(self, question: str, evidence: Sequence[Evidence]) -> AsyncIterator[str | Answer]:
        yield "One thing."
        yield Answer(text="Another.")


def retrieved(evidence: Sequence[Evidence] = EVIDENCE) -> Inbound[EvidenceRetrieved]:
    event = EvidenceRetrieved(
        query="q1",
        tenant="acme",
        text="How is the gate opened?",
        reply_partition=1,
        deadline_ms=9_000,
        asked_ms=4_960,
        generation="g1",
        evidence=list(evidence),
    )
    origin = Origin(topic="rag.retrievals.v1", topic_id="t", partition=0, offset=0)
    return Inbound(key=b"q1", event=event, raw=b"{}", origin=origin, timestamp_ms=0)


def generate(questions: MemoryQuestions, **changes: Any) -> Generate:
    ports: dict[str, Any] = {"questions": questions, "answerer": Extractive(margin=0.4), "clock": FrozenClock(ms=5_000)}
    return Generate(**(ports | changes))


async def outcome(handler: Generate, record: Inbound[EvidenceRetrieved]) -> list[Outbound | Flush]:
    return [out async for out in handler(record)]


def replies(outs: Sequence[Outbound | Flush]) -> list[Reply]:
    return [out.event for out in outs if isinstance(out, Outbound) and isinstance(out.event, Reply)]


async def test_tokens_then_answer_then_the_stored_end() -> None:
    questions = MemoryQuestions(rows={Q1: QuestionRow()})

    outs = await outcome(generate(questions), retrieved())

    told = replies(outs)
    assert [(reply.type, reply.attempt, reply.seq) for reply in told] == [
        ("token", 1, 0),
        ("token", 1, 1),
        ("answer", 1, 2),
        ("done", 1, 3),
    ]
    assert "".join(reply.token or "" for reply in told) == TEXT
    assert told[2].answer is not None
    assert told[2].answer.text == TEXT
    assert told[3].elapsed_ms == 40.0
    assert outs[2] is FLUSH
    assert questions.rows[Q1].answer == told[2].answer


async def test_nothing_is_stored_before_the_answer_is_acknowledged() -> None:
    questions = MemoryQuestions(rows={Q1: QuestionRow()})

    outs = generate(questions)(retrieved())
    async for out in outs:
        if out is FLUSH:
            break

    assert questions.rows[Q1].answer is None


async def test_the_documents_that_do_not_say_end_the_question_too() -> None:
    told = replies(await outcome(generate(MemoryQuestions(rows={Q1: QuestionRow()})), retrieved([])))

    assert [reply.type for reply in told] == ["token", "answer", "done"]
    assert told[1].answer is not None
    assert told[1].answer.abstained


async def test_a_redelivered_question_gets_its_stored_answer_in_the_same_places() -> None:
    questions = MemoryQuestions(rows={Q1: QuestionRow()})
    first = replies(await outcome(generate(questions), retrieved()))

    again = replies(await outcome(generate(questions), retrieved([])))

    assert again == first[2:]


async def test_a_question_that_cannot_be_claimed_gets_nothing() -> None:
    for row in (QuestionRow(state="rejected"), QuestionRow(in_time=False), QuestionRow(state="finished")):
        assert await outcome(generate(MemoryQuestions(rows={Q1: row})), retrieved()) == []
    assert await outcome(generate(MemoryQuestions()), retrieved()) == []


async def test_an_attempt_that_was_taken_over_ends_without_a_word() -> None:
    questions = MemoryQuestions(rows={Q1: QuestionRow()})
    told = []
    async for out in generate(questions)(retrieved()):
        if out is FLUSH:
            questions.rows[Q1].attempt = 2
        told.append(out)

    assert [reply.type for reply in replies(told)] == ["token", "token"]
    assert questions.rows[Q1].answer is None


async def test_a_provider_whose_answer_is_not_what_it_streamed_is_refused() -> None:
    with pytest.raises(Unprocessable, match="not the text that it streamed"):
        await outcome(generate(MemoryQuestions(rows={Q1: QuestionRow()}), answerer=Liar()), retrieved())


async def test_a_dead_letter_ends_the_question_once() -> None:
    questions = MemoryQuestions(rows={Q1: QuestionRow(state="claimed", attempt=1)})
    letter = DeadLetter(reason="bug", message="The question could not be answered.", attempts=1)

    told = replies([out async for out in FailedQuestion(questions=questions)(retrieved(), letter)])
    again = replies([out async for out in FailedQuestion(questions=questions)(retrieved(), letter)])

    assert [(reply.type, reply.error, reply.message) for reply in told] == [
        ("error", "bug", "The question could not be answered.")
    ]
    assert questions.rows[Q1].error == {"reason": "bug", "message": "The question could not be answered."}
    assert again == []
