"""Shadows of a candidate, on doubles."""

from typing import Any

import pytest

from streams.errors import Transient
from streams.operator.gate.question import Question
from streams.operator.shadow import LATE_S, ReportShadows, RunShadows, summary
from tests.doubles.shadows import EndedQuestion, MemoryShadowBench, MemoryShadows

RELEVANCE = {"right": 0.8, "wrong": 0.5}


def ended(number: int, **changes: Any) -> EndedQuestion:
    question = Question(set="", kind="logged", tenant="acme", text=f"q{number}")
    return EndedQuestion(query=f"00000000-0000-7000-8000-{number:012}", question=question, **changes)


def shadowing(
    questions: list[EndedQuestion], candidate: str = "right", **store: Any
) -> tuple[RunShadows, MemoryShadows, MemoryShadowBench, dict[str, int]]:
    shadows = MemoryShadows(ended=questions, **store)
    texts = [each.question.text for each in questions]
    found = {"g1": {text: ["right", "other"] for text in texts}, "g2": {text: [candidate, "other"] for text in texts}}
    bench = MemoryShadowBench(found=found, relevance=dict(RELEVANCE))
    counts: dict[str, int] = {}

    def counted(outcome: str, n: int) -> None:
        counts[outcome] = counts.get(outcome, 0) + n

    return RunShadows(shadows=shadows, bench=bench, counted=counted, pause_s=0), shadows, bench, counts


async def test_each_question_is_asked_of_both_once_however_often_one_looks() -> None:
    run, shadows, bench, counts = shadowing([ended(number) for number in range(10)])

    for _ in range(2):
        await run.round()

    assert [(base, candidate, question.text) for base, candidate, question in bench.asked] == [
        ("g1", "g2", f"q{number}") for number in range(10)
    ]
    assert {row.state for row in shadows.rows.values()} == {"done"}
    assert counts == {"shadowed": 10}


async def test_a_share_takes_about_so_many_and_always_the_same() -> None:
    questions = [ended(number) for number in range(1000)]
    taken = []
    for share in (0.1, 0.1, 0.4):
        run, shadows, _, _ = shadowing(questions, shares={"g2": share})
        await run.round()
        taken.append({query for _, query in shadows.rows})

    tenth, again, more = taken
    assert tenth == again
    assert tenth < more
    assert 70 <= len(tenth) <= 130
    assert 340 <= len(more) <= 460


async def test_what_comes_too_late_is_counted_once_and_not_asked() -> None:
    run, shadows, bench, counts = shadowing([ended(1, age_s=LATE_S + 20), ended(2)])

    for _ in range(2):
        await run.round()

    assert [question.text for _, _, question in bench.asked] == ["q2"]
    assert counts == {"dropped": 1, "shadowed": 1}
    assert len(shadows.rows) == 1


async def test_what_is_not_open_is_given_back_whole() -> None:
    run, shadows, bench, counts = shadowing([ended(number) for number in range(6)])
    bench.away.add("g2")

    with pytest.raises(Transient):
        await run.round()
    assert (shadows.rows, counts) == ({}, {})
    bench.away.clear()
    await run.round()

    assert counts == {"shadowed": 6}


async def test_a_question_that_cannot_be_asked_does_not_hold_up_the_next_one() -> None:
    run, shadows, bench, counts = shadowing([ended(1), ended(2)])
    bench.relevance.clear()
    bench.found["g1"]["q2"] = bench.found["g2"]["q2"] = []

    await run.round()

    assert [row.state for row in shadows.rows.values()] == ["failed", "done"]
    assert counts == {"failed": 1, "shadowed": 1}


async def test_what_a_dead_worker_took_is_taken_over_and_given_up_when_the_next_one_dies_too() -> None:
    run, shadows, bench, counts = shadowing([ended(1)])
    await shadows.take(1)
    [row] = shadows.rows.values()
    row.lapsed = True
    [again] = await shadows.take(1)
    row.lapsed = True

    await run.round()

    assert again.query == row.shadow.query
    assert (row.state, bench.asked, counts) == ("failed", [], {"failed": 1})


async def test_a_report_says_how_a_candidate_compares_and_is_made_when_something_changed() -> None:
    run, shadows, _, _ = shadowing([ended(number) for number in range(40)], candidate="wrong")
    report = ReportShadows(shadows=shadows)
    await run.round()

    await report.round()

    told = shadows.reports.pop("g2")
    assert (told["base"], told["n"], told["n_failed"], told["overlap"]) == ("g1", 40, 0, pytest.approx(1 / 3, abs=1e-4))
    assert told["agreement"] == 0
    relevance, answered = told["measures"]
    assert (relevance["name"], relevance["n"], relevance["difference"]) == ("relevance", 40, -0.3)
    assert (relevance["low"], relevance["high"]) == (-0.3, -0.3)
    assert (answered["name"], answered["base"], answered["candidate"]) == ("answered", 1, 1)
    await report.round()
    assert shadows.reports == {}


async def test_an_abstention_counts_as_one_and_has_no_relevance() -> None:
    run, shadows, bench, _ = shadowing([ended(number) for number in range(20)])
    bench.found["g2"] = {"q0": ["right"]}
    await run.round()
    results, n_failed = await shadows.results("g2", "g1")

    told = summary("g1", results, n_failed)

    relevance, answered = told["measures"]
    assert (relevance["n"], relevance["difference"]) == (1, 0)
    assert (answered["n"], answered["candidate"], answered["difference"]) == (20, 0.05, -0.95)
    assert answered["low"] < -0.95 <= answered["high"] < 0


def test_nothing_asked_is_said_so() -> None:
    told = summary("g1", [])

    assert (told["n"], told["overlap"], told["agreement"], told["measures"]) == (0, None, None, [])
