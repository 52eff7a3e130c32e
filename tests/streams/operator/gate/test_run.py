"""A run of the gate, on doubles."""

from typing import Any

import msgspec
import pytest

from streams.errors import Transient
from streams.operator.gate.question import Question
from streams.operator.gate.result import Result, Side
from streams.operator.gate.run import UNKNOWN, Gate, RunGates, Sets
from tests.doubles.gates import MemoryBench, MemoryGates

QUESTIONS = [
    Question(set="own", kind="labelled", tenant="acme", text=f"q{n}", relevant={f"d{n}": 1}) for n in range(100)
]
RIGHT = {f"q{n}": [f"d{n}", "other"] for n in range(100)}
WRONG = {f"q{n}": ["other", "another"] for n in range(100)}


def gate(**sets: Any) -> Gate:
    return Gate(id="g", candidate="g2", base="g1", tenant="acme", margin=0.05, sets=Sets(**sets))


def bench(candidate: dict[str, list[str]], **gates: Any) -> tuple[RunGates, MemoryGates, MemoryBench]:
    documents = {("acme", f"d{n}") for n in range(100)}
    store = MemoryGates(asked=[gate(labelled=QUESTIONS)], documents=documents) if not gates else MemoryGates(**gates)
    asked = MemoryBench(found={"g1": RIGHT, "g2": candidate})
    return RunGates(gates=store, bench=asked, pause_s=0), store, asked


async def test_both_generations_are_asked_the_same_and_the_verdict_is_kept() -> None:
    run, gates, asked = bench(RIGHT)

    await run.round()

    assert asked.asked == [(name, f"q{n}") for n in range(100) for name in ("g1", "g2")]
    report = gates.reports["g"]
    assert (report["verdict"], report["passed"], report["candidate"], report["base"]) == ("equal", True, "g2", "g1")
    assert gates.told["g"] == {"n_questions": 100, "n_asked": 100}
    assert [(each["name"], each["kind"], each["n"]) for each in report["sets"]] == [("own", "labelled", 100)]


async def test_a_candidate_that_finds_nothing_fails_and_the_report_shows_what_it_lost() -> None:
    run, gates, _ = bench(WRONG)

    await run.round()

    report = gates.reports["g"]
    assert (report["verdict"], report["passed"]) == ("worse", False)
    ndcg = next(each for each in report["sets"][0]["measures"] if each["name"] == "ndcg")
    assert (ndcg["base"], ndcg["candidate"], ndcg["n_worse"], ndcg["verdict"]) == (1, 0, 100, "worse")
    assert (ndcg["histogram"]["counts"][0], sum(ndcg["histogram"]["counts"])) == (100, 100)
    losses = report["sets"][0]["losses"]
    assert len(losses) == 10
    assert [source["document"] for source in losses[0]["base"]["sources"]] == ["d0", "other"]
    assert [source["document"] for source in losses[0]["candidate"]["sources"]] == ["other", "another"]
    assert report["sets"][0]["gains"] == []


async def test_what_a_killed_worker_measured_is_not_asked_again() -> None:
    run, gates, asked = bench(RIGHT)
    asked.away.add("g2")
    with pytest.raises(Transient):
        await run.round()
    asked.away.clear()
    await run.round()
    whole = gates.reports.pop("g")
    for number in range(30, 100):
        del gates.kept["g"][number]
    gates.ended.clear()
    gates.held.clear()
    asked.asked.clear()

    await run.round()

    assert [text for name, text in asked.asked if name == "g1"] == [f"q{n}" for n in range(30, 100)]
    assert gates.reports["g"] == whole


async def test_questions_without_a_document_that_is_there_are_left_out_and_counted() -> None:
    run, gates, asked = bench(RIGHT)
    gates.documents -= {("acme", "d0"), ("acme", "d1")}

    await run.round()

    assert ("g1", "q0") not in asked.asked
    held = gates.reports["g"]["sets"][0]
    assert (held["n"], held["left_out"]) == (98, {UNKNOWN: 2})
    assert gates.reports["g"]["verdict"] == "unsure"


async def test_the_golden_set_is_asked_for_the_tenant_of_the_key() -> None:
    run, gates, asked = bench(RIGHT, asked=[gate(golden=True)], documents={("acme", "docs/glossary.md")})

    await run.round()

    assert ("g1", "What is an index generation?") in asked.asked
    assert gates.reports["g"]["sets"][0]["name"] == "golden"


async def test_questions_of_the_log_are_compared_and_decide_nothing() -> None:
    log = [Question(set="logged", kind="logged", tenant="acme", text=f"q{n}") for n in range(100)]
    run, gates, _ = bench(WRONG, asked=[gate(logged=100)], log=log)

    await run.round()

    report = gates.reports["g"]
    assert report["verdict"] == "unsure"
    held = report["sets"][0]
    assert held["likeness"] == {"overlap": 0.3333, "agreement": 0}
    assert [each["text"] for each in held["unlike"]] == [f"q{n}" for n in range(10)]


async def test_one_that_is_cancelled_stops_and_gets_no_verdict() -> None:
    run, gates, asked = bench(RIGHT)
    keep = gates.keep

    async def cancelled_meanwhile(id: str, number: int, result: Any) -> bool:
        if number == 3:
            gates.ended[id] = ("cancelled", None)
        return await keep(id, number, result)

    gates.keep = cancelled_meanwhile  # type: ignore[method-assign]

    await run.round()

    assert len(asked.asked) == 8
    assert (gates.ended["g"], gates.reports) == (("cancelled", None), {})


async def test_a_generation_that_is_gone_fails_the_gate_with_a_reason() -> None:
    run, gates, asked = bench(RIGHT)
    del asked.found["g2"]

    await run.round()

    assert gates.ended["g"] == ("failed", "there is no index generation 'g2'")


async def test_a_bug_fails_one_gate_and_not_the_next() -> None:
    run, gates, asked = bench(RIGHT)
    gates.asked.append(Gate(id="h", candidate="g2", base="g1", tenant="acme", margin=0.05, sets=Sets(golden=True)))
    asked.found["g2"] = None  # type: ignore[assignment]

    await run.round()

    assert gates.ended["g"] == ("failed", "AttributeError; see the log of the worker that ran it")
    assert gates.ended["h"][0] == "finished"


async def test_shadows_are_reported_as_they_are_and_decide_nothing() -> None:
    side = Side(measures={"answered": 1.0, "relevance": 0.75}, sources=[], answer="a", seconds=0.01)
    silent = Side(measures={"answered": 0.0}, sources=[], answer="", seconds=0.01)
    results = [
        Result(set="shadowed", kind="logged", tenant="acme", text=f"q{n}", base=side, candidate=candidate)
        for n, candidate in enumerate((side, side, silent))
    ]
    kept = [msgspec.structs.replace(each, likeness={"overlap": 0.5, "agreement": 0.25}) for each in results]
    run, gates, asked = bench(RIGHT, asked=[gate(shadowed=9)], shadows=[("g2", "g1", each) for each in kept])

    await run.round()

    report = gates.reports["g"]
    assert asked.asked == []
    assert (report["verdict"], report["passed"]) == ("unsure", False)
    [found] = report["sets"]
    assert (found["name"], found["kind"], found["n"]) == ("shadowed", "logged", 3)
    assert found["likeness"] == {"overlap": 0.5, "agreement": 0.25}
    measures = {each["name"]: each["n"] for each in found["measures"]}
    assert measures == {"answered": 3, "relevance": 2}
    assert not any("verdict" in each for each in found["measures"])
