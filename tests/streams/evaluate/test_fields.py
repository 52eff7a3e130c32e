from schemas.events import Answer, Citation, EvalLogged, FeedbackGiven, Hit, QueryFinished, QueryScored, Scores, Usage
from streams.evaluate.fields import logged, of_feedback, of_result, of_scores
from streams.ports import Eval

RESULT = QueryFinished(
    query="q1",
    tenant="acme",
    text="Why?",
    outcome="done",
    attempt=2,
    generation="g1",
    reply_partition=3,
    asked_ms=1_000,
    finished_ms=1_500,
    user="ann",
    groups=["board"],
    hits=[
        Hit(document="a", version=1, chunk="a1", score=0.9, scores={"dense": 0.8}, sentence_scores=[0.7]),
        Hit(document="b", version=4, chunk="b1", score=0.5, scores={"dense": 0.4, "lexical": 7.5}),
    ],
    answer=Answer(
        text="So. [1] And so. [2] So there. [3]",
        citations=[
            Citation(marker=1, document="b", chunk="b1", quote="So.", start=0, end=3),
            Citation(marker=2, document="a", chunk="a1", quote="And so.", start=0, end=7),
            Citation(marker=3, document="b", chunk="b1", quote="So there.", start=9, end=18),
        ],
        usage=Usage(prompt_tokens=100, completion_tokens=9, model="m"),
        prompt="answer@1",
        provider="openai",
        n_invented_marks=1,
    ),
    retrieve_ms=12.5,
)
SCORED = QueryScored(
    query="q1",
    tenant="acme",
    attempt=2,
    scores=Scores(faithfulness=0.9, relevance=0.6, n_sentences=3, n_supported=2, scorer="sentences@1"),
    scored_ms=1_520,
)
GIVEN = FeedbackGiven(
    query="q1", tenant="acme", rating="down", given_ms=9_000, comment="No.", correction="Because.", user="ann"
)


def test_a_row_of_all_parts_is_flat_and_aligned() -> None:
    row = Eval(revision=3, result=of_result(RESULT), scores=of_scores(SCORED), feedback=of_feedback(GIVEN))

    assert logged("q1", "acme", row) == EvalLogged(
        query="q1",
        tenant="acme",
        revision=3,
        question="Why?",
        outcome="done",
        attempt=2,
        generation="g1",
        asked_ms=1_000,
        finished_ms=1_500,
        user="ann",
        chunks=["a1", "b1"],
        documents=["a", "b"],
        versions=[1, 4],
        chunk_scores=[0.9, 0.5],
        ranker_scores={"dense": [0.8, 0.4], "lexical": [None, 7.5]},
        cited=["b1", "a1"],
        answer_sha256="418719da0bff8303a9e568d279e87b936689fb05f95471cb906c966068789fc6",
        answer_chars=33,
        provider="openai",
        model="m",
        prompt="answer@1",
        prompt_tokens=100,
        completion_tokens=9,
        n_invented_marks=1,
        retrieve_ms=12.5,
        faithfulness=0.9,
        relevance=0.6,
        scorer="sentences@1",
        rating="down",
        comment="No.",
        correction="Because.",
        feedback_ms=9_000,
    )


def test_a_question_that_ended_with_an_error_has_its_reason_and_no_answer() -> None:
    failed = QueryFinished(
        query="q1",
        tenant="acme",
        text="Why?",
        outcome="error",
        attempt=0,
        generation="g1",
        reply_partition=3,
        asked_ms=1_000,
        finished_ms=31_000,
        error="deadline_exceeded",
        message="No answer came in time.",
    )

    assert logged("q1", "acme", Eval(revision=1, result=of_result(failed))) == EvalLogged(
        query="q1",
        tenant="acme",
        revision=1,
        question="Why?",
        outcome="error",
        attempt=0,
        generation="g1",
        asked_ms=1_000,
        finished_ms=31_000,
        error="deadline_exceeded",
    )


def test_no_text_of_answers_or_documents_is_logged() -> None:
    told = str(of_result(RESULT))

    assert "And so." not in told
    assert "So there." not in told
