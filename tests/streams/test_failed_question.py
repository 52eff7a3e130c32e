from schemas.events import QueryAsked, Reply
from schemas.ids import QueryId
from streams.outcome import FailedQuestion
from streams.runtime.record import Inbound, Origin, Outbound
from streams.runtime.stage import DeadLetter
from tests.doubles.question_store import MemoryQuestions, QuestionRow

LETTER = DeadLetter(reason="deadline", message="The rankers were away until the deadline.", attempts=7)
ORIGIN = Origin(topic="rag.queries.v1", topic_id="t", partition=0, offset=0)


def asked(kind: str) -> Inbound[QueryAsked]:
    event = QueryAsked(
        query="q1",
        tenant="acme",
        text="?",
        kind=kind,
        top_k=1,
        reply_partition=2,
        deadline_ms=1,
        asked_ms=0,
        generation="g1",
    )
    return Inbound(key=b"q1", event=event, raw=b"{}", origin=ORIGIN, timestamp_ms=0)


async def test_the_row_ends_before_the_reader_is_told() -> None:
    questions = MemoryQuestions(rows={QueryId("q1"): QuestionRow()})

    (out,) = [out async for out in FailedQuestion(questions=questions)(asked("answer"), LETTER)]

    assert questions.rows[QueryId("q1")].error == {
        "reason": "deadline",
        "message": "The rankers were away until the deadline.",
    }
    assert isinstance(out, Outbound)
    assert isinstance(out.event, Reply)
    assert (out.topic.name, out.partition, out.event.type) == ("rag.answers.v1", 2, "error")
    assert (out.event.error, out.event.message) == ("deadline", "The rankers were away until the deadline.")


async def test_a_question_that_has_ended_gets_no_second_end() -> None:
    questions = MemoryQuestions(rows={QueryId("q1"): QuestionRow(state="finished")})

    assert [out async for out in FailedQuestion(questions=questions)(asked("answer"), LETTER)] == []


async def test_a_bare_search_has_no_row_and_is_told_all_the_same() -> None:
    outs = [out async for out in FailedQuestion(questions=MemoryQuestions())(asked("search"), LETTER)]

    assert [out.event.type for out in outs if isinstance(out, Outbound) and isinstance(out.event, Reply)] == ["error"]


async def test_a_record_that_is_no_question_ends_nothing() -> None:
    record: Inbound[QueryAsked] = Inbound(key=b"q1", event=None, raw=b"garbage", origin=ORIGIN, timestamp_ms=0)

    assert [out async for out in FailedQuestion(questions=MemoryQuestions())(record, LETTER)] == []
