"""The checker must see each kind of damage, and nothing in a clean history."""

from typing import Any

import pytest

from tests.faults.checker import check

Entry = dict[str, Any]


def heard(at: float, event: str, place: str | None, *, query: str = "q", **data: Any) -> Entry:
    return {"at": at, "kind": "event", "query": query, "reader": "r", "event": event, "place": place, "data": data}


def question(query: str, outcome: str, text: str | None, **changes: Any) -> Entry:
    row = {"state": "finished", "outcome": outcome, "text": text, "published": True, "late_s": -20.0, "attempt": 2}
    return {"at": 9.0, "kind": "question", "query": query} | row | changes


def without(history: list[Entry], event: str) -> list[Entry]:
    return [e for e in history if e.get("event") != event]


def changed(history: list[Entry], match: Entry, **changes: Any) -> list[Entry]:
    """Change the entries that hold these values."""
    hit = [all(e.get(name) == value for name, value in match.items()) for e in history]
    assert any(hit)
    return [e | changes if is_hit else e for e, is_hit in zip(history, hit, strict=True)]


POISON = {"topic": "rag.ingest.v1", "key": "acme/p", "value": "ew==", "headers": [["sent-by", "eA=="]]}


def clean() -> list[Entry]:
    """Two versions of one document, a deleted one, and a question."""
    return [
        {"at": 1.0, "kind": "submit", "op": 1, "document": "a", "markers": ["mk1x", "mk2x"], "load": "acme"},
        {"at": 1.1, "kind": "acknowledged", "op": 1},
        {"at": 2.0, "kind": "visible", "op": 1, "document": "a"},
        {"at": 3.0, "kind": "submit", "op": 2, "document": "a", "markers": ["mk1x", "mk3x"], "load": "acme"},
        {"at": 3.1, "kind": "acknowledged", "op": 2},
        {"at": 4.0, "kind": "visible", "op": 2, "document": "a"},
        {"at": 4.1, "kind": "patch", "op": 5, "document": "a", "field": "p5"},
        {"at": 4.2, "kind": "acknowledged", "op": 5},
        {"at": 4.2, "kind": "visible", "op": 5, "document": "a"},
        {"at": 5.0, "kind": "submit", "op": 3, "document": "b", "markers": ["mk4x"]},
        {"at": 5.1, "kind": "acknowledged", "op": 3},
        {"at": 6.0, "kind": "delete", "op": 4, "document": "b"},
        {"at": 6.1, "kind": "acknowledged", "op": 4},
        {"at": 6.2, "kind": "visible", "op": 4, "document": "b"},
        {"at": 0.0, "kind": "allowed", "seconds": 30},
        {"at": 7.0, "kind": "ask", "query": "q", "reader": "r"},
        heard(7.0, "accepted", None, id="q"),
        heard(7.1, "sources", "2:3"),
        {"at": 7.1, "kind": "shown", "asked_at": 7.0, "text": "about mk3x", "may": ["acme"]},
        heard(7.2, "token", "2:4", text="void"),
        heard(7.2, "reset", "2:4", attempt=2),
        heard(7.2, "token", "2:6", text="hel"),
        heard(7.3, "token", "2:8", text="lo"),
        heard(7.4, "answer", "2:9", answer="hello"),
        heard(7.4, "score", "2:9", faithfulness=1.0),
        heard(7.5, "done", "2:10"),
        question("q", "done", "hello"),
        {"at": 9.0, "kind": "result", "query": "q", "outcome": "done", "text": "hello"},
        {"at": 9.0, "kind": "result", "query": "q", "outcome": "done", "text": "hello"},
        {"at": 9.0, "kind": "stored", "document": "a", "text": "one mk1x and mk3x.", "fields": ["p5"]},
        {"at": 9.1, "kind": "sought", "document": "a", "markers": ["mk1x", "mk3x", "mk2x"]},
        {"at": 9.1, "kind": "found", "document": "a", "marker": "mk1x"},
        {"at": 9.1, "kind": "found", "document": "a", "marker": "mk3x"},
        {"at": 9.0, "kind": "poison", "poison": 1, **POISON},
        {"at": 9.0, "kind": "poison_acknowledged", "poison": 1},
        {"at": 9.2, "kind": "dead_letter", "why": "not_json", **POISON},
        {"at": 9.2, "kind": "lag", "group": "rag.intake", "topic": "rag.ingest.v1", "records": 0},
        {"at": 9.2, "kind": "gauge", "part": "gateway", "rss_bytes": 100_000_000, "handles": 60},
    ]


def test_a_clean_history_passes() -> None:
    verdict = check(clean())

    assert verdict.violations == []
    assert verdict.counts["documents"] == 2
    assert verdict.counts["ended by done"] == 1


@pytest.mark.parametrize(
    ("damage", "invariant"),
    [
        (lambda h: [e for e in h if e["kind"] != "stored"], "I1 lost"),
        (lambda h: [*h, {"at": 9, "kind": "stored", "document": "a", "text": "mk1x"}], "I2 duplicate"),
        (lambda h: [*h, {"at": 9, "kind": "stored", "document": "a", "text": "mk2x"}], "I3 resurrected"),
        (lambda h: [*h, {"at": 9, "kind": "stored", "document": "b", "text": "mk4x"}], "I3 resurrected"),
        (lambda h: [*h, {"at": 9, "kind": "found", "document": "b", "marker": "mk4x"}], "I3 resurrected"),
        (lambda h: changed(h, {"kind": "stored"}, fields=["other"]), "I1 patch lost"),
        (lambda h: changed(h, {"kind": "patch"}, op=0), "I3 patch resurrected"),
        (lambda h: [e for e in h if e["kind"] != "found" or e["marker"] != "mk3x"], "I2 sinks differ"),
        (lambda h: [*h, {"at": 9, "kind": "shown", "asked_at": 8.0, "text": "mk2x"}], "I3 old version served"),
        (lambda h: [*h, {"at": 9, "kind": "shown", "asked_at": 8.0, "text": "mk4x"}], "I3 old version served"),
        (lambda h: without(h, "done"), "I4 terminal"),
        (lambda h: [*h, heard(9, "error", "2:11")], "I4 terminal"),
        (lambda h: [*h, heard(9, "done", "2:10")], "I4 terminal"),
        (lambda h: [*h, heard(9, "token", "2:11", text="x")], "I4 terminal"),
        (lambda h: [e for e in h if e["kind"] != "ask"], "I4 terminal"),
        (lambda h: [*h, {"at": 9, "kind": "gave_up", "query": "q", "reader": "s", "why": "away"}], "I4 terminal"),
        (
            lambda h: [*h, {"at": 9, "kind": "gave_up", "query": "", "reader": "s", "status": 422, "why": "key"}],
            "I4 refused",
        ),
        (lambda h: changed(h, {"event": "done"}, at=47.1), "I4 late"),
        (lambda h: changed(h, {"kind": "question"}, late_s=10.1), "I4 late"),
        (lambda h: [e for e in h if e["kind"] != "question"], "I4 forgotten"),
        (lambda h: changed(h, {"kind": "question"}, state="claimed", outcome=None), "I10 forgotten"),
        (lambda h: changed(h, {"kind": "question"}, published=False), "I10 forgotten"),
        (lambda h: [*h, question("unheard of", "done", None, state="pending")], "I10 forgotten"),
        (lambda h: changed(h, {"kind": "question"}, outcome="error"), "I4 end differs"),
        (lambda h: [e for e in h if e["kind"] != "result"], "I4 result"),
        (lambda h: [*h, {"at": 9, "kind": "result", "query": "q", "outcome": "error", "text": None}], "I4 result"),
        (lambda h: [e for e in h if e.get("data") != {"text": "lo"}], "I5 tokens"),
        (lambda h: [*h[:24], heard(7.3, "token", "2:9", text="lo"), *h[24:]], "I5 tokens"),
        (lambda h: changed(h, {"kind": "question"}, text="hello "), "I5 stored"),
        (lambda h: without(h, "reset"), "I5 tokens"),
        (lambda h: without(h, "answer"), "I5 answer"),
        (lambda h: changed(h, {"place": "2:8"}, place="2:6"), "I5 place"),
        (lambda h: changed(h, {"place": "2:8"}, place="2:5"), "I5 place"),
        (lambda h: changed(h, {"place": "2:8"}, place="3:8"), "I5 place"),
        (lambda h: without(h, "sources"), "I5 order"),
        (lambda h: changed(h, {"kind": "shown"}, may=["others"]), "I12 shown to others"),
        (
            lambda h: [*changed(h, {"kind": "question"}, outcome="error"), {"at": 0, "kind": "promised"}],
            "I4 not answered",
        ),
        (lambda h: [e for e in h if e["kind"] != "dead_letter"], "I8 not kept"),
        (lambda h: changed(h, {"kind": "dead_letter"}, value="e30="), "I8 not kept"),
        (lambda h: changed(h, {"kind": "dead_letter"}, headers=[]), "I8 not kept"),
        (lambda h: [e for e in h if e["kind"] != "poison"], "I8 not poison"),
        (lambda h: changed(h, {"kind": "lag"}, records=1), "I10 lag"),
        (lambda h: changed(h, {"kind": "gauge"}, rss_bytes=2_000_000_000), "I11 memory"),
        (lambda h: changed(h, {"kind": "gauge"}, handles=1_001), "I11 handles"),
    ],
)
def test_each_kind_of_damage_is_seen(damage: Any, invariant: str) -> None:
    verdict = check(damage(clean()))

    assert verdict.counts[invariant] >= 1, verdict.violations


def test_an_operation_without_an_answer_may_or_may_not_have_happened() -> None:
    unknown = [{"at": 8.0, "kind": "submit", "op": 9, "document": "a", "markers": ["mk7x"]}]
    applied = [e for e in clean() if e["kind"] not in {"stored", "found"}] + [
        {"at": 9.0, "kind": "stored", "document": "a", "text": "mk7x"},
        {"at": 9.0, "kind": "found", "document": "a", "marker": "mk7x"},
    ]

    assert check(clean() + unknown).violations == []
    assert check(applied + unknown).violations == []


def test_a_patch_without_an_answer_may_or_may_not_be_there_and_none_outlives_its_version() -> None:
    unknown = [{"at": 8.0, "kind": "patch", "op": 9, "document": "a", "field": "p9"}]
    later = [
        {"at": 8.1, "kind": "submit", "op": 10, "document": "a", "markers": ["mk1x", "mk3x"], "load": "acme"},
        {"at": 8.2, "kind": "acknowledged", "op": 10},
    ]

    assert check(clean() + unknown).violations == []
    assert check(changed(clean(), {"kind": "stored"}, fields=["p5", "p9"]) + unknown).violations == []
    assert check(changed(clean(), {"kind": "stored"}, fields=["p9"]) + unknown).counts["I1 patch lost"] == 1
    assert check(changed(clean(), {"kind": "stored"}, fields=[]) + unknown + later).violations == []
    assert check(clean() + unknown + later).counts["I3 patch resurrected"] == 1


def test_a_cancelled_question_keeps_what_was_heard_of_its_answer() -> None:
    partial = [e for e in clean() if e.get("event") not in {"answer", "score", "done"} and e["kind"] != "result"]
    result = {"at": 9.0, "kind": "result", "query": "q", "outcome": "cancelled"}

    def violations(stored: str, told: str) -> list[str]:
        ended = [*partial, heard(7.5, "cancelled", "2:9", text=told)]
        row = {"outcome": "cancelled", "text": stored}
        found = check([*changed(ended, {"kind": "question"}, **row), result | row]).violations
        return [each.split(":")[0] for each in found]

    assert violations("hello", "hello") == violations("hel", "hel") == []
    assert violations("help", "help") == ["I5 stored"]
    assert violations("hello", "hel") == ["I5 stored"]


def test_an_answer_that_the_row_tells_may_come_before_all_its_tokens() -> None:
    told = changed(without(clean(), "score"), {"event": "answer"}, place=None)
    short = [e for e in told if e.get("data") != {"text": "lo"}]
    wrong = changed(short, {"data": {"text": "hel"}}, data={"text": "hal"})

    assert check(short).violations == []
    assert [each.split(":")[0] for each in check(wrong).violations] == ["I5 tokens"]


def test_a_question_that_was_rejected_has_no_end() -> None:
    assert check([*clean(), question("refused", "", None, state="rejected")]).violations == []


@pytest.mark.parametrize(("heard_at", "late"), [(59.9, 0), (60.1, 1)])
def test_the_grace_begins_when_what_tells_the_end_is_back(heard_at: float, late: int) -> None:
    away = [{"at": 40.0, "kind": "away", "part": "kafka"}, {"at": 50.0, "kind": "back", "part": "kafka"}]

    verdict = check(changed([*clean(), *away], {"event": "done"}, at=heard_at))

    assert verdict.counts["I4 late"] == late


def test_an_absence_after_the_grace_excuses_nothing() -> None:
    away = [{"at": 47.2, "kind": "away", "part": "kafka"}, {"at": 50.0, "kind": "back", "part": "kafka"}]

    assert check(changed([*clean(), *away], {"event": "done"}, at=50.1)).counts["I4 late"] == 1


def gateways(*absences: tuple[str, float, float]) -> list[Entry]:
    """Two gateways, and when each of them was down."""
    seen = [
        {"at": at, "kind": kind, "part": part}
        for part, began, ended in absences
        for at, kind in ((began, "down"), (ended, "up"))
    ]
    return [{"at": 0.0, "kind": "gateways", "parts": ["gateway", "gateway-2"]}, *seen]


LATE = {"deadline_at": 37.0, "late_s": 25.0}
"""A question of `clean` that ended 25 s after its deadline, at 62."""


@pytest.mark.parametrize(
    ("absences", "late"),
    [
        ([("gateway", 36, 55), ("gateway-2", 30, 52.1)], False),  # both for 15.1 s of the 25
        ([("gateway", 36, 55), ("gateway-2", 30, 51.9)], True),  # both for 14.9 s
        ([("gateway", 30, 70)], True),  # one of them was there
        ([("gateway", 30, 50), ("gateway-2", 50, 70)], True),  # one after the other
        ([("gateway", 20, 37), ("gateway-2", 20, 37)], True),  # before the deadline
        ([("gateway", 62, 90), ("gateway-2", 62, 90)], True),  # after the end
        ([("gateway", 38, 46), ("gateway", 48, 60), ("gateway-2", 30, 70)], False),  # 20 s in two parts
    ],
)
def test_lateness_counts_only_while_a_gateway_is_up(absences: list[Any], late: bool) -> None:
    history = changed(clean(), {"kind": "question"}, **LATE) + gateways(*absences)
    assert check(history).counts["I4 late"] == late

    heard_late = changed(clean(), {"event": "done"}, at=62.0) + gateways(*absences)
    assert check(heard_late).counts["I4 late"] == late


@pytest.mark.parametrize(
    ("kinds", "late"),
    [
        (("freeze", "thawed"), False),
        (("away", "back"), True),  # it runs, and is not ready
        (("kill", "up"), True),  # nobody saw it down
        (("down", "thawed"), True),  # not known to be up again
    ],
)
def test_a_frozen_gateway_is_idle_and_one_that_is_not_ready_is_not(kinds: tuple[str, str], late: bool) -> None:
    other = [{"at": at, "kind": kind, "part": "gateway-2"} for at, kind in zip((36, 70), kinds, strict=True)]
    history = changed(clean(), {"kind": "question"}, **LATE) + gateways(("gateway", 36, 70)) + other

    assert check(history).counts["I4 late"] == late


def test_a_gateway_that_is_killed_while_it_is_frozen_is_idle_until_it_is_up() -> None:
    seen = [("freeze", 38), ("down", 40), ("thawed", 60), ("up", 52.9)]  # idle for 14.9 s
    other = [{"at": at, "kind": kind, "part": "gateway-2"} for kind, at in seen]
    history = changed(clean(), {"kind": "question"}, **LATE) + gateways(("gateway", 36, 70)) + other

    assert check(history).counts["I4 late"] == 1
    assert check([*history[:-1], other[-1] | {"at": 53.1}]).counts["I4 late"] == 0


def test_where_it_is_not_known_which_gateways_there_are_nothing_is_excused() -> None:
    absences = gateways(("gateway", 36, 70), ("gateway-2", 36, 70))[1:]
    history = changed(clean(), {"kind": "question"}, **LATE) + absences

    assert check(history).counts["I4 late"] == 1
