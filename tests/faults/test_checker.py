"""The checker must see each kind of damage, and nothing in a clean history."""

from typing import Any

import pytest

from tests.faults.checker import check

Entry = dict[str, Any]


def clean() -> list[Entry]:
    """Two versions of one document, a deleted one, and a question."""
    return [
        {"at": 1.0, "kind": "submit", "op": 1, "document": "a", "markers": ["mk1x", "mk2x"]},
        {"at": 1.1, "kind": "acknowledged", "op": 1},
        {"at": 2.0, "kind": "visible", "op": 1, "document": "a"},
        {"at": 3.0, "kind": "submit", "op": 2, "document": "a", "markers": ["mk1x", "mk3x"]},
        {"at": 3.1, "kind": "acknowledged", "op": 2},
        {"at": 4.0, "kind": "visible", "op": 2, "document": "a"},
        {"at": 5.0, "kind": "submit", "op": 3, "document": "b", "markers": ["mk4x"]},
        {"at": 5.1, "kind": "acknowledged", "op": 3},
        {"at": 6.0, "kind": "delete", "op": 4, "document": "b"},
        {"at": 6.1, "kind": "acknowledged", "op": 4},
        {"at": 6.2, "kind": "visible", "op": 4, "document": "b"},
        {"at": 7.0, "kind": "ask", "query": "q"},
        {"at": 7.1, "kind": "event", "query": "q", "event": "sources", "data": {}},
        {"at": 7.1, "kind": "shown", "asked_at": 7.0, "text": "about mk3x"},
        {"at": 7.2, "kind": "event", "query": "q", "event": "token", "data": {"text": "hel"}},
        {"at": 7.3, "kind": "event", "query": "q", "event": "token", "data": {"text": "lo"}},
        {"at": 7.4, "kind": "event", "query": "q", "event": "answer", "data": {"answer": "hello"}},
        {"at": 7.5, "kind": "event", "query": "q", "event": "done", "data": {}},
        {"at": 9.0, "kind": "stored", "document": "a", "text": "one mk1x and mk3x."},
        {"at": 9.1, "kind": "sought", "document": "a", "markers": ["mk1x", "mk3x", "mk2x"]},
        {"at": 9.1, "kind": "found", "document": "a", "marker": "mk1x"},
        {"at": 9.1, "kind": "found", "document": "a", "marker": "mk3x"},
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
        (lambda h: [e for e in h if e["kind"] != "found" or e["marker"] != "mk3x"], "I2 sinks differ"),
        (lambda h: [*h, {"at": 9, "kind": "shown", "asked_at": 8.0, "text": "mk2x"}], "I3 old version served"),
        (lambda h: [*h, {"at": 9, "kind": "shown", "asked_at": 8.0, "text": "mk4x"}], "I3 old version served"),
        (lambda h: [e for e in h if e.get("event") != "done"], "I4 terminal"),
        (lambda h: [*h, {"at": 9, "kind": "event", "query": "q", "event": "error", "data": {}}], "I4 terminal"),
        (lambda h: [e for e in h if e.get("data") != {"text": "lo"}], "I5 tokens"),
        (lambda h: [e for e in h if e.get("event") != "sources"], "I5 order"),
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
