"""`headrace generation gate` against a fake gateway."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.headrace.cli.conftest import Headrace
from tests.headrace.fake_gateway import FakeGateway

QUESTION = {"question": "At which level?", "documents": ["gates.md"]}
REPORT = {
    "sets": [
        {
            "name": "own[1]",
            "left_out": {"none of its relevant documents is there": 2},
            "measures": [
                {"name": "ndcg", "n": 60, "base": 0.8, "candidate": 0.7, "difference": -0.1}
                | {"low": -0.2, "high": -0.05, "verdict": "worse"},
                {"name": "recall", "n": 60, "base": 1.0, "candidate": 0.9, "difference": -0.1},
            ],
        }
    ]
}


def gate(state: str, verdict: str | None = None, why: str | None = None, **progress: int) -> dict[str, Any]:
    told = {"id": "g", "candidate": "g2", "base": "g1", "state": state, "why": why, "progress": progress}
    judged = {"verdict": verdict, "passed": verdict in ("better", "equal"), "reason": "for [a] reason"}
    return told | judged | {"report": REPORT if verdict else None}


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    file = tmp_path / "questions.jsonl"
    file.write_text(json.dumps(QUESTION) + "\n\n" + json.dumps(QUESTION | {"passage": "ü"}) + "\n")
    return file


def test_questions_are_sent_and_the_verdict_is_waited_for(
    fake: FakeGateway, headrace: Headrace, questions: Path
) -> None:
    fake.gates = [gate("asked"), gate("running", n_asked=1, n_questions=2), gate("finished", "equal")]

    result = headrace("generation", "gate", "g2", "--questions", str(questions), "--logged", "5", "--wait")

    assert result.exit_code == 0
    assert result.stdout.startswith("equal g2 against g1: for [a] reason\n")
    body = {"questions": [QUESTION, QUESTION | {"passage": "ü"}], "golden": False, "logged": 5}
    assert fake.gated == [("POST", body)]


def test_a_candidate_that_did_not_pass_is_an_exit_code_with_the_table(fake: FakeGateway, headrace: Headrace) -> None:
    fake.gates = [gate("finished", "worse")]

    result = headrace("generation", "gate", "g2")

    assert (result.exit_code, fake.gated) == (1, [])
    for said in ("worse g2 against g1", "own[1]", "-0.200 to -0.050", "own[1]: 2 left out: none of its"):
        assert said in result.stdout


def test_without_waiting_it_is_said_how_far_it_is(fake: FakeGateway, headrace: Headrace, tmp_path: Path) -> None:
    fake.gates = [gate("running", n_asked=1, n_questions=20)]
    page = tmp_path / "page.html"

    result = headrace("generation", "gate", "g2", "--golden", "--margin", "0.15", "--base", "g0", "--html", str(page))

    assert result.exit_code == 0
    assert result.stdout == "gate of g2 against g1 is running: 1 of 20 questions asked\n"
    assert "add --wait" in result.stderr
    assert not page.exists()
    assert fake.gated[0][1] == {"questions": [], "golden": True, "logged": 0, "margin": 0.15, "base": "g0"}


def test_the_page_is_written(fake: FakeGateway, headrace: Headrace, tmp_path: Path) -> None:
    fake.gates = [gate("finished", "better")]
    page = tmp_path / "page.html"

    result = headrace("generation", "gate", "g2", "--html", str(page))

    assert (result.exit_code, page.read_text()) == (0, "<!DOCTYPE html>")
    assert "report: " in result.stdout


def test_an_old_verdict_is_shown_without_its_report(fake: FakeGateway, headrace: Headrace) -> None:
    fake.gates = [gate("finished", "equal") | {"report": None}]

    result = headrace("generation", "gate", "g2")

    assert (result.exit_code, result.stdout.splitlines()[1:]) == (0, ["its report is not kept any more"])


def test_one_that_failed_says_why(fake: FakeGateway, headrace: Headrace) -> None:
    fake.gates = [gate("failed", why="there is no index generation 'g2'")]

    result = headrace("generation", "gate", "g2")

    assert result.exit_code == 1
    assert "is failed: there is no index generation 'g2'" in result.stdout


def test_one_that_does_not_end_is_not_waited_for_longer_than_said(fake: FakeGateway, headrace: Headrace) -> None:
    fake.gates = [gate("running")]

    assert headrace("generation", "gate", "g2", "--wait", "--timeout", "1").exit_code == 1


def test_it_can_be_cancelled(fake: FakeGateway, headrace: Headrace) -> None:
    fake.gates = [gate("cancelled")]

    result = headrace("generation", "gate", "g2", "--cancel")

    assert (result.exit_code, fake.gated) == (0, [("DELETE", {})])
    assert headrace("generation", "gate", "g2", "--cancel", "--golden").exit_code == 2


def test_scripts_get_one_document(fake: FakeGateway, headrace: Headrace) -> None:
    fake.gates = [gate("finished", "worse")]

    result = headrace("generation", "gate", "g2", "--json")

    assert (result.exit_code, json.loads(result.stdout)["verdict"]) == (1, "worse")


@pytest.mark.parametrize(
    ("text", "said"),
    [("{}\n{", "line 2 of"), ("[1]", "line 1 of"), ("\n", "holds 0 questions"), ("{}\n" * 2_001, "holds 2001")],
)
def test_a_broken_file_is_a_usage_error(headrace: Headrace, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "q.jsonl"
    file.write_text(text)

    result = headrace("generation", "gate", "g2", "--questions", str(file))

    assert result.exit_code == 2
    assert said in " ".join(result.stderr.replace("│", " ").split())
