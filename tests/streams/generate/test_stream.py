from schemas.events import Answer, EvidenceRetrieved, Reply
from streams.generate.stream import ReplyStream, pieces

FOUND = EvidenceRetrieved(
    query="q1",
    tenant="acme",
    text="?",
    reply_partition=4,
    deadline_ms=1,
    asked_ms=0,
    generation="g1",
    evidence=[],
)


def test_an_answer_is_cut_after_each_mark() -> None:
    assert pieces("One. [1] Two [a] x[3]y. [2]") == ["One. [1]", " Two [a] x[3]y. [2]"]
    assert pieces("The documents do not say.") == ["The documents do not say."]
    assert pieces("One. [1] and\nmore") == ["One. [1]", " and\nmore"]
    assert pieces("") == []


def test_replies_are_counted_from_zero_in_their_attempt() -> None:
    stream = ReplyStream(found=FOUND, attempt=2)
    outs = [stream.token("a"), stream.answer(Answer(text="a")), stream.done(12.5)]

    events = [out.event for out in outs if isinstance(out.event, Reply)]
    assert [(event.type, event.attempt, event.seq) for event in events] == [
        ("token", 2, 0),
        ("answer", 2, 1),
        ("done", 2, 2),
    ]
    assert {(out.topic.name, out.key, out.partition) for out in outs} == {("rag.answers.v1", b"q1", 4)}
    assert events[2].elapsed_ms == 12.5


def test_the_end_of_a_cancelled_question_takes_the_next_place() -> None:
    stream = ReplyStream(found=FOUND, attempt=1)
    stream.token("a")
    last = stream.cancelled(Answer(text="a"), 12.5).event

    assert isinstance(last, Reply)
    assert (last.type, last.seq, last.answer, last.elapsed_ms) == ("cancelled", 1, Answer(text="a"), 12.5)
