import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tests.headrace.cli.conftest import Headrace
from tests.headrace.fake_gateway import KEY, FakeGateway

SOURCE = {
    "document_id": "kb/gates.md",
    "chunk_id": "c1",
    "headings": ["Gates", "Pressure"],
    "text": "It closes at 80 bar.",
}
CITATION = {
    "marker": 1,
    "document_id": "kb/gates.md",
    "chunk_id": "c1",
    "quote": "It closes at 80 bar.",
    "start": 0,
    "page": 3,
}
ANSWERED: list[tuple[str, dict[str, Any]]] = [
    ("accepted", {"id": "q", "url": "/v1/queries/q"}),
    ("sources", {"sources": [SOURCE]}),
    ("token", {"text": "It closes "}),
    ("token", {"text": "at 80 bar. [1]"}),
    ("answer", {"id": "q", "answer": "It closes at 80 bar. [1]", "citations": [CITATION], "usage": {}}),
    ("score", {"faithfulness": 0.931, "relevance": None, "scorer": "vectors"}),
    ("done", {"latency_ms": 12.0}),
]
SHOWN = [
    "It closes at 80 bar. [1]",
    "Sources",
    "[1] kb/gates.md p. 3 > Gates > Pressure",
    "It closes at 80 bar.",
    "faithfulness 0.93 · question q",
]


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


def test_an_answer_is_streamed_and_its_sources_follow_with_file_heading_and_quote(
    fake: FakeGateway, headrace: Headrace
) -> None:
    fake.stream = ANSWERED

    result = headrace(
        "ask", "When does it close?", "-c", "kb", "--where", "team=ops", "--where", "team=dev", "--where", "year=2026"
    )

    assert result.exit_code == 0
    assert lines(result.stdout) == SHOWN
    assert fake.questions == [
        {
            "query": "When does it close?",
            "collection": "kb",
            "filters": {"team": ["ops", "dev"], "year": ["2026", 2026]},
            "stream": True,
        }
    ]


def test_json_gives_one_line_per_event(fake: FakeGateway, headrace: Headrace) -> None:
    fake.stream = ANSWERED

    result = headrace("ask", "When?", "--json")

    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["event"] for each in events] == ["accepted", "sources", "token", "token", "answer", "score", "done"]


def test_json_without_a_stream_is_one_document(headrace: Headrace) -> None:
    result = headrace("ask", "When?", "--json", "--no-stream")

    assert json.loads(result.stdout)["answer"] == "At 80 bar."


def test_a_question_that_ends_with_an_error_has_code_1(fake: FakeGateway, headrace: Headrace) -> None:
    fake.stream = [ANSWERED[0], ("error", {"title": "Timeout", "detail": "no answer within 30 s", "status": 504})]

    result = headrace("ask", "When?")

    assert result.exit_code == 1
    assert "no answer within 30 s" in result.output


def test_an_answer_whose_stream_breaks_is_shown_whole(fake: FakeGateway, headrace: Headrace) -> None:
    fake.stream, fake.cuts = ANSWERED, [3, 1, 4]

    result = headrace("ask", "When?")

    assert result.exit_code == 0
    assert lines(result.stdout) == SHOWN
    assert fake.resumed_from == ["0:2", "0:2", "0:3"]


def interrupted(fake: FakeGateway, when: Callable[["subprocess.Popen[str]"], object]) -> tuple[int, str]:
    """Run `ask` in a process of its own, press Ctrl-C; return its exit code and what it said afterwards."""
    command = [sys.executable, "-c", "from headrace.cli import main; main()", "ask", "When?"]
    environment = os.environ | {"HEADRACE_URL": fake.url, "HEADRACE_API_KEY": KEY}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=0
    ) as asking:
        when(asking)
        asking.send_signal(signal.SIGINT)
        return asking.wait(20), asking.communicate()[0]


def test_ctrl_c_cancels_the_question_and_says_so(fake: FakeGateway) -> None:
    fake.stream, fake.hold_after = ANSWERED, 3

    code, said = interrupted(fake, lambda asking: asking.stdout.read(len("It closes ")) if asking.stdout else "")

    assert code == 130
    assert fake.cancelled.is_set()
    assert "question q cancelled" in said


def test_ctrl_c_before_the_question_is_accepted_only_stops(fake: FakeGateway) -> None:
    fake.stream, fake.hold_after = ANSWERED, 0

    code, said = interrupted(fake, lambda _: fake.asked.wait(20))

    assert code == 130
    assert not fake.cancelled.is_set()
    assert "goes on without this command" in said


def test_a_question_that_somebody_cancels_has_code_1(fake: FakeGateway, headrace: Headrace) -> None:
    fake.stream = [*ANSWERED[:3], ("cancelled", {"id": "q", "text": "It closes "})]

    result = headrace("ask", "When?")

    assert result.exit_code == 1
    assert "the question was cancelled" in result.stderr


def test_a_question_is_followed_from_its_beginning_or_from_a_place(fake: FakeGateway, headrace: Headrace) -> None:
    fake.stream = ANSWERED

    assert lines(headrace("follow", "q").stdout) == SHOWN
    after = [json.loads(line) for line in headrace("follow", "q", "--after", "0:2", "--json").stdout.splitlines()]

    assert [each["event"] for each in after] == ["token", "answer", "score", "done"]
    assert fake.resumed_from == [None, "0:2"]


def test_an_answer_whose_tokens_are_gone_is_shown_all_the_same(fake: FakeGateway, headrace: Headrace) -> None:
    fake.stream = [ANSWERED[0], *ANSWERED[4:]]

    result = headrace("follow", "q")

    assert result.exit_code == 0
    assert lines(result.stdout)[0] == "It closes at 80 bar. [1]"


def test_a_question_of_nobody_is_refused(headrace: Headrace) -> None:
    result = headrace("follow", "other")

    assert result.exit_code == 4
    assert "there is no question 'other'" in result.stderr


def test_a_cancel_says_how_the_question_ended(fake: FakeGateway, headrace: Headrace) -> None:
    fake.stream = ANSWERED

    result = headrace("cancel", "q")

    assert result.exit_code == 0
    assert result.stdout == "question q had ended before: done\n"
    assert json.loads(headrace("cancel", "q", "--json").stdout)["outcome"] == "done"


def test_feedback_carries_rating_comment_and_correction(fake: FakeGateway, headrace: Headrace) -> None:
    result = headrace("feedback", "q", "down", "--comment", "wrong unit", "--correction", "8 MPa")

    assert result.exit_code == 0
    assert fake.feedback == [{"rating": "down", "comment": "wrong unit", "correction": "8 MPa"}]
    assert headrace("feedback", "q", "sideways").exit_code == 2


def test_an_abstention_is_an_answer(fake: FakeGateway, headrace: Headrace) -> None:
    said = {"id": "q", "answer": "Not in the documents.", "citations": [], "usage": {}, "abstained": True}
    fake.stream = [("token", {"text": "Not in the documents."}), ("answer", said), ("done", {"latency_ms": 3.0})]

    result = headrace("ask", "Who?")

    assert result.exit_code == 0
    assert "Not in the documents." in result.stdout


def test_search_shows_passages_and_passes_the_ranker_on(fake: FakeGateway, headrace: Headrace) -> None:
    result = headrace("search", "pressure", "--ranker", "dense", "-k", "3")

    assert result.exit_code == 0
    assert "a.md" in result.stdout
    assert fake.questions == [{"query": "pressure", "top_k": 3, "rankers": ["dense"]}]


def test_an_unknown_ranker_is_a_usage_error(headrace: Headrace) -> None:
    assert headrace("search", "pressure", "--ranker", "magic").exit_code == 2


def test_a_filter_without_a_value_is_a_usage_error(headrace: Headrace) -> None:
    assert headrace("ask", "pressure", "--where", "team").exit_code == 2
