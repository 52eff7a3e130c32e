"""The figures that are read from a history."""

from typing import Any

from tests.faults.figures import stalls, table


def at(moment: float, kind: str, **fields: Any) -> dict[str, Any]:
    return {"at": moment, "kind": kind, **fields}


HISTORY = [
    at(0.0, "visible"),
    at(5.0, "visible"),
    at(6.0, "kill", part="worker-ingest-2"),
    at(6.5, "event", event="token", reader="a"),
    at(9.0, "visible"),
    at(9.5, "visible"),
    at(10.0, "freeze", part="gateway"),
    at(10.5, "kill", part="worker-ingest-1"),
    at(17.0, "visible"),
    at(17.5, "event", event="token", reader="a"),
    at(18.0, "event", event="token", reader="b"),
    at(18.5, "visible"),
    at(19.0, "load_ended"),
]


def test_the_worst_stall_of_a_kind_is_the_longest_silence_around_its_faults() -> None:
    found = stalls(HISTORY)

    assert {kind: stall.n for kind, stall in found.items()} == {"freeze gateway": 1, "kill worker-ingest": 2}
    assert found["freeze gateway"].documents_s == found["kill worker-ingest"].documents_s == 7.5
    assert found["kill worker-ingest"].tokens_s == 11.5


def test_the_silence_in_which_the_load_ends_counts_and_none_later() -> None:
    ending = [at(5.0, "visible"), at(5.5, "kill", part="kafka"), at(5.7, "load_ended"), at(9.0, "visible")]

    assert stalls([at(0.0, "visible"), *ending, at(60.0, "visible")])["kill kafka"].documents_s == 4.0


def test_the_table_names_every_kind() -> None:
    text = table(HISTORY)

    assert "kill worker-ingest" in text
    assert "freeze gateway" in text
