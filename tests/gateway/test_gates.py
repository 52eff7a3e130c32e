"""Routes of the gate, on doubles, and the page of its report."""

from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from gateway.gates import GateRequest
from schemas.events import ControlSent
from schemas.topics import CONTROL
from streams.operator.gate.bench import Asked, Hit
from streams.operator.gate.question import Question
from streams.operator.gate.result import Result, report
from streams.operator.gate.verdict import Rule
from tests.gateway.factories import Gateway, sse

GATE = "/v1/generations/g2/gate"
QUESTION = {"question": "At which level does it open?", "documents": ["gates.md"]}
EVIL = "<script>alert('x')</script>\"'&"


class Reader(HTMLParser):
    """Fails on tags that are not closed; collects tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += data


def asked(document: str) -> Asked:
    hits = [Hit(document=document, chunk="c", text=f"{document} says {EVIL}", score=0.5)]
    return Asked(hits=hits, context=[document], answer=f"answer {EVIL}", abstained=False, seconds=0.01)


def judged(n: int = 100, lost: int = 30) -> dict[str, Any]:
    results = []
    for number in range(n):
        question = Question(
            set="own", kind="labelled", tenant="acme", text=f"q{number} {EVIL}", relevant={"right": 1}, passage="right"
        )
        results.append(Result.of(question, asked("right"), asked("wrong" if number < lost else "right")))
    results.append(Result.without(Question(set="own", kind="labelled", tenant="acme", text="gone"), f"why {EVIL}"))
    logged = Question(set="logged", kind="logged", tenant="acme", text="of the log")
    results.append(Result.of(logged, asked("right"), asked("wrong")))
    return report("g2", "g1", Rule(), results)


async def finished(gateway: Gateway, found: dict[str, Any]) -> None:
    await gateway.operator.post(GATE, json={"questions": [QUESTION]})
    gateway.gates.rows[-1] |= {
        "state": "finished",
        "verdict": found["verdict"],
        "reason": found["reason"],
        "passed": found["passed"],
        "report": found,
        "finished_at": datetime.now(UTC),
    }


async def test_a_gate_is_asked_for_against_the_generation_that_answers(gateway: Gateway) -> None:
    response = await gateway.operator.post(GATE, json={"golden": True, "logged": 5, "questions": [QUESTION]})

    told = response.json()
    assert (response.status_code, told["state"], told["passed"]) == (202, "asked", False)
    assert (told["candidate"], told["base"], told["margin"]) == ("g2", "g1", 0.05)
    assert [control.kind for control in gateway.sender.events(ControlSent, CONTROL)] == ["gate"]
    row = gateway.gates.rows[0]
    assert (row["tenant"], row["sets"]["golden"], row["sets"]["logged"]) == ("operations", True, 5)
    assert row["sets"]["labelled"][0]["relevant"] == {"gates.md": 1}
    assert row["sets"]["labelled"][0]["tenant"] == "operations"
    assert (await gateway.operator.get(GATE)).json() == told


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "asks nothing"),
        ({"questions": [{"question": "?!", "documents": ["a"]}]}, "no letter and no digit"),
        ({"questions": [{"question": "a"}]}, "has no label"),
        ({"questions": [{"question": "a", "passage": "--"}]}, "no letter and no digit"),
        ({"questions": [QUESTION | {"set": "golden"}]}, "a name of its own"),
        ({"questions": [QUESTION | {"set": "a b"}]}, "pattern"),
        ({"questions": [QUESTION | {"tenant": "Acme!"}]}, "a-z"),
        ({"questions": [QUESTION | {"documents": {"a": 0}}]}, "greater than or equal to 1"),
        ({"questions": [QUESTION | {"documents": ["a"] * 101}]}, "at most 100"),
        ({"questions": [QUESTION | {"expected": "a"}]}, "there is no field 'expected'"),
        ({"logged": 2_001}, "less than or equal to 2000"),
        ({"golden": True, "margin": 0.5}, "less than or equal to 0.25"),
    ],
)
async def test_a_bad_request_is_told_what_was_expected(gateway: Gateway, body: Any, said: str) -> None:
    response = await gateway.operator.post(GATE, json=body)

    assert response.status_code == 422
    assert said in response.text
    assert gateway.gates.rows == []


def test_the_number_of_questions_is_bounded() -> None:
    GateRequest.model_validate({"questions": [QUESTION] * 2_000})
    with pytest.raises(ValueError, match="at most 2000"):
        GateRequest.model_validate({"questions": [QUESTION] * 2_001})


async def test_a_generation_that_does_not_exist_or_answers_already_is_not_judged(gateway: Gateway) -> None:
    unknown = await gateway.operator.post("/v1/generations/g9/gate", json={"golden": True})
    no_base = await gateway.operator.post(GATE, json={"golden": True, "base": "g9"})
    itself = await gateway.operator.post("/v1/generations/g1/gate", json={"golden": True})

    assert [each.status_code for each in (unknown, no_base, itself)] == [404, 404, 422]
    assert "there is no index generation 'g9'; there are ['g1', 'g2']" in unknown.json()["detail"]
    assert "name another one" in itself.json()["detail"]


async def test_a_second_gate_waits_for_the_first_which_can_be_cancelled(gateway: Gateway) -> None:
    await gateway.operator.post(GATE, json={"golden": True})

    again = await gateway.operator.post(GATE, json={"golden": True})
    cancelled = await gateway.operator.delete(GATE)
    nothing = await gateway.operator.delete(GATE)

    assert (again.status_code, again.json()["type"]) == (409, "urn:headrace:problem:gate_open")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert nothing.status_code == 409
    assert (await gateway.operator.post(GATE, json={"golden": True})).status_code == 202


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", GATE), ("GET", GATE), ("GET", f"{GATE}/report"), ("GET", f"{GATE}/events"), ("DELETE", GATE)],
)
async def test_only_operators_have_to_do_with_gates(gateway: Gateway, method: str, path: str) -> None:
    stranger = await gateway.anyone.request(method, path, json={"golden": True})
    tenant = await gateway.acme.request(method, path, json={"golden": True})

    assert (stranger.status_code, tenant.status_code) == (401, 403)
    assert gateway.gates.rows == []


@pytest.mark.parametrize("path", [GATE, f"{GATE}/report", f"{GATE}/events"])
async def test_where_none_was_asked_for_there_is_none(gateway: Gateway, path: str) -> None:
    response = await gateway.operator.get(path)

    assert (response.status_code, response.json()["type"]) == (404, "urn:headrace:problem:no_gate")


async def test_the_report_comes_as_json_and_as_a_page(gateway: Gateway) -> None:
    await finished(gateway, judged())

    as_json = (await gateway.operator.get(GATE)).json()
    page = await gateway.operator.get(f"{GATE}/report")
    accepted = await gateway.operator.get(GATE, headers={"Accept": "text/html,*/*"})

    assert (as_json["verdict"], as_json["passed"], as_json["report"]["schema"]) == ("worse", False, 1)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text == accepted.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_the_page_is_whole_and_lets_nothing_from_outside_in(gateway: Gateway) -> None:
    await finished(gateway, judged())

    read = Reader((await gateway.operator.get(f"{GATE}/report")).text)

    assert read.open == []
    names = [name for name, _ in read.tags]
    assert "script" not in names and "link" not in names and "img" not in names
    assert not [attributes for _, attributes in read.tags if {"src", "href"} & attributes.keys()]
    for said in ("Worse: it must not answer", EVIL, "Worst losses", "Least alike", "1 left out: why", "30 / 100"):
        assert said in read.said
    assert names.count("svg") == 3
    assert names.count("details") == 11


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": "running", "progress": {"n_questions": 9, "n_asked": 4}}, "4 of 9 questions are asked."),
        ({"state": "failed", "why": EVIL}, EVIL),
        ({"state": "cancelled"}, "No verdict: the gate is cancelled"),
        ({"state": "finished", "verdict": "equal", "reason": EVIL}, f"{EVIL}. Its report is not kept any more."),
    ],
)
async def test_without_a_report_the_page_says_how_far_it_is(
    gateway: Gateway, changes: dict[str, Any], said: str
) -> None:
    await gateway.operator.post(GATE, json={"golden": True})
    gateway.gates.rows[-1] |= changes

    read = Reader((await gateway.operator.get(f"{GATE}/report")).text)

    assert (read.open, said in read.said) == ([], True)


async def test_a_report_of_questions_without_labels_has_a_page(gateway: Gateway) -> None:
    logged = Question(set="logged", kind="logged", tenant="acme", text="of the log")
    await finished(gateway, report("g2", "g1", Rule(), [Result.of(logged, asked("a"), asked("a"))]))

    read = Reader((await gateway.operator.get(f"{GATE}/report")).text)

    assert read.open == []
    assert "Unsure: nobody can tell yet" in read.said


async def test_a_stream_tells_how_far_a_gate_is_and_ends_with_it(gateway: Gateway) -> None:
    await gateway.operator.post(GATE, json={"golden": True})
    row = gateway.gates.rows[-1]
    row |= {"state": "running", "progress": {"n_questions": 20, "n_asked": 3}}
    ended = {"state": "finished", "verdict": "equal", "passed": True, "reason": "so", "report": {"sets": []}}
    gateway.gates.coming = [{}, {}, {"progress": {"n_questions": 20, "n_asked": 17}}, ended]

    response = await gateway.operator.get(f"{GATE}/events")

    told = [(name, data["state"], data["progress"].get("n_asked")) for name, data, _ in sse(response.text)]
    assert told == [("progress", "running", 3), ("progress", "running", 17), ("done", "finished", 17)]
    last = sse(response.text)[-1][1]
    assert (last["verdict"], last["passed"], "report" in last) == ("equal", True, False)


async def test_a_stream_of_a_gate_that_has_ended_says_so_at_once(gateway: Gateway) -> None:
    await finished(gateway, judged())

    [(name, data, _)] = sse((await gateway.operator.get(f"{GATE}/events")).text)

    assert (name, data["verdict"]) == ("done", "worse")
    assert gateway.services.streams.n_open == 0


async def test_shadows_may_be_all_that_a_gate_looks_at(gateway: Gateway) -> None:
    response = await gateway.operator.post(GATE, json={"shadowed": 200})

    assert response.status_code == 202
    assert gateway.gates.rows[-1]["sets"] == {"golden": False, "logged": 0, "shadowed": 200, "labelled": []}
