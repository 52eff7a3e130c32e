from schemas.events import Evidence, EvidenceRetrieved, Filters, Hit, QueryAsked, QueryFinished, Reply
from schemas.ids import QueryId
from streams.outcome import FailedQuestion
from streams.runtime.record import FLUSH, Inbound, Origin, Outbound
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
        filters=Filters(groups=["staff"]),
    )
    return Inbound(key=b"q1", event=event, raw=b"{}", origin=ORIGIN, timestamp_ms=0)


def retrieved() -> Inbound[EvidenceRetrieved]:
    passage = Evidence(document="d", version=2, chunk="c", text="The gate.", start=0, end=9, score=0.5)
    event = EvidenceRetrieved(
        query="q1",
        tenant="acme",
        text="?",
        reply_partition=2,
        deadline_ms=1,
        asked_ms=0,
        generation="g1",
        evidence=[passage],
        retrieve_ms=12.0,
        groups=["staff"],
    )
    return Inbound(key=b"q1", event=event, raw=b"{}", origin=ORIGIN, timestamp_ms=0)


async def test_the_row_ends_before_the_reader_and_the_stages_behind_are_told() -> None:
    row = QuestionRow()
    outs = []
    async for out in FailedQuestion(questions=MemoryQuestions(rows={QueryId("q1"): row}))(asked("answer"), LETTER):
        assert (row.outcome, row.published) == ("error", False)
        outs.append(out)

    assert (row.terminal_seq, row.error, row.published) == (
        -1,
        {"reason": "deadline", "message": "The rankers were away until the deadline."},
        True,
    )
    reply, finished, flush = outs
    assert isinstance(reply, Outbound) and isinstance(finished, Outbound)
    assert isinstance(reply.event, Reply)
    assert (reply.topic.name, reply.partition) == ("rag.answers.v1", 2)
    assert (reply.event.type, reply.event.attempt, reply.event.seq) == ("error", 0, -1)
    assert (reply.event.error, reply.event.message) == ("deadline", "The rankers were away until the deadline.")
    assert (finished.topic.name, finished.key) == ("rag.results.v1", b"q1")
    assert finished.event == QueryFinished(
        query="q1",
        tenant="acme",
        text="?",
        outcome="error",
        attempt=0,
        generation="g1",
        reply_partition=2,
        asked_ms=0,
        finished_ms=5_040,
        groups=["staff"],
        error="deadline",
        message="The rankers were away until the deadline.",
    )
    assert flush is FLUSH


async def test_a_question_that_failed_with_its_passages_says_which_they_were() -> None:
    row = QuestionRow(state="claimed", claimed_by="w1", attempt=3)
    questions = MemoryQuestions(rows={QueryId("q1"): row})

    outs = [out async for out in FailedQuestion(questions=questions)(retrieved(), LETTER)]

    events = [out.event for out in outs if isinstance(out, Outbound)]
    assert isinstance(events[0], Reply) and isinstance(events[1], QueryFinished)
    assert (events[0].attempt, events[1].attempt) == (3, 3)
    assert events[1].hits == row.hits == [Hit(document="d", version=2, chunk="c", score=0.5)]
    assert (events[1].groups, events[1].retrieve_ms) == (["staff"], 12.0)


async def test_a_question_that_has_ended_or_is_held_by_another_gets_no_end() -> None:
    for row in (QuestionRow(state="finished"), QuestionRow(state="claimed", claimed_by="w2", attempt=1)):
        questions = MemoryQuestions(rows={QueryId("q1"): row})
        assert [out async for out in FailedQuestion(questions=questions)(asked("answer"), LETTER)] == []
        assert row.outcome is None


async def test_a_bare_search_has_no_row_and_is_told_all_the_same() -> None:
    outs = [out async for out in FailedQuestion(questions=MemoryQuestions())(asked("search"), LETTER)]

    assert [out.event.type for out in outs if isinstance(out, Outbound) and isinstance(out.event, Reply)] == ["error"]


async def test_a_record_that_is_no_question_ends_nothing() -> None:
    record: Inbound[QueryAsked] = Inbound(key=b"q1", event=None, raw=b"garbage", origin=ORIGIN, timestamp_ms=0)

    assert [out async for out in FailedQuestion(questions=MemoryQuestions())(record, LETTER)] == []
