import json
from typing import Any

from tests.headrace.cli.conftest import Headrace
from tests.headrace.fake_gateway import FakeGateway

SOURCE = {
    "document_id": "kb/gates.md",
    "chunk_id": "c1",
    "headings": ["Gates", "Pressure"],
    "text": "It closes at 80 bar.",
}
CITATION = {"marker": 1, "document_id": "kb/gates.md", "chunk_id": "c1", "quote": "It closes at 80 bar.", "start": 0}
ANSWERED: list[tuple[str, dict[str, Any]]] = [
    ("accepted", {"id": "q", "url": "/v1/queries/q"}),
    ("sources", {"sources": [SOURCE]}),
    ("token", {"text": "It closes "}),
    ("token", {"text": "at 80 bar. [1]"}),
    ("answer", {"id": "q", "answer": "It closes at 80 bar. [1]", "citations": [CITATION], "usage": {}}),
    ("done", {"latency_ms": 12.0}),
]


def test_an_answer_is_streamed_and_its_sources_follow_with_file_heading_and_quote(
    fake: FakeGateway, headrace: Headrace
) -> None:
    fake.stream = ANSWERED

    result = headrace(
        "ask", "When does it close?", "-c", "kb", "--where", "team=ops", "--where", "team=dev", "--where", "year=2026"
    )

    assert result.exit_code == 0
    lines = [line.strip() for line in result.stdout.splitlines() if line.strip()]
    assert lines == [
        "It closes at 80 bar. [1]",
        "Sources",
        "[1] kb/gates.md > Gates > Pressure",
        "It closes at 80 bar.",
    ]
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
    assert [each["event"] for each in events] == ["accepted", "sources", "token", "token", "answer", "done"]


def test_json_without_a_stream_is_one_document(headrace: Headrace) -> None:
    result = headrace("ask", "When?", "--json", "--no-stream")

    assert json.loads(result.stdout)["answer"] == "At 80 bar."


def test_a_question_that_ends_with_an_error_has_code_1(fake: FakeGateway, headrace: Headrace) -> None:
    fake.stream = [ANSWERED[0], ("error", {"title": "Timeout", "detail": "no answer within 30 s", "status": 504})]

    result = headrace("ask", "When?")

    assert result.exit_code == 1
    assert "no answer within 30 s" in result.output


def test_a_stream_that_breaks_off_is_no_success(fake: FakeGateway, headrace: Headrace) -> None:
    fake.stream = ANSWERED[:3]

    assert headrace("ask", "When?").exit_code == 1


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
