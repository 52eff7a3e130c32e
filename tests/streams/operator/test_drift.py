"""What differs about a document, and what does not."""

from dataclasses import replace
from typing import Any

import pytest

from schemas.ids import DocumentId, DocumentKey, Tenant
from streams.operator.drift import NOTHING, Contents, Logged, Row, Stored, differences

KEY = DocumentKey(Tenant("acme"), DocumentId("guide"))


def row(chunk: str, **changes: Any) -> Row:
    values: dict[str, Any] = {
        "chunk": chunk,
        "text": f"text of {chunk}",
        "start": 0,
        "end": 9,
        "headings": ["A", "B"],
        "sentences": [[0, 4], [4, 9]],
        "page": None,
        "vector": b"\x00\x01",
        "sentence_vectors": b"\x02\x03\x04\x05",
        "collection": "default",
        "metadata": {"year": 2026, "tags": ["a", 1.5]},
        "acl": None,
    }
    return Row(**(values | changes))


WHOLE = Contents.of([row("a"), row("b")])
FINE = Stored(latest=3, live=3, settled=True, contents=WHOLE)


def logged(**changes: Any) -> Logged:
    values: dict[str, Any] = {"accepted": 3, "chunked": 3, "embedded": 3, "contents": WHOLE}
    return Logged(**(values | changes))


def kinds(log: Logged, stored: Stored) -> list[str]:
    return [each.kind for each in differences(KEY, log, stored)]


def test_what_agrees_does_not_differ() -> None:
    assert kinds(logged(), FINE) == []


def test_a_deleted_document_with_nothing_left_does_not_differ() -> None:
    gone = Stored(latest=4, deleted=True, settled=True, live=4, live_deleted=True)

    assert kinds(logged(accepted=4, chunked=4, embedded=4, contents=None), gone) == []


def test_an_older_version_beside_a_failed_one_does_not_differ() -> None:
    assert kinds(logged(accepted=4), replace(FINE, latest=4, failed=True, settled=False)) == []


def test_a_failed_document_that_was_never_live_does_not_differ() -> None:
    failed = Stored(latest=1, failed=True)

    assert kinds(Logged(accepted=1), failed) == []


@pytest.mark.parametrize(
    ("log", "stored", "kind"),
    [
        (logged(accepted=4), FINE, "unknown"),
        (logged(), Stored(), "unknown"),
        (logged(accepted=2), FINE, "log_behind"),
        (logged(chunked=2), FINE, "chunks_behind"),
        (logged(embedded=2), FINE, "embeddings_behind"),
        (logged(), Stored(latest=3), "not_live"),
        (logged(), replace(FINE, live_deleted=True, contents=NOTHING), "not_live"),
        (logged(accepted=4), replace(FINE, latest=4, settled=False), "live_behind"),
        (logged(accepted=4), replace(FINE, latest=4, deleted=True), "deleted_live"),
        (logged(accepted=4), Stored(latest=4, deleted=True, live=4, live_deleted=True, contents=WHOLE), "deleted_live"),
        (Logged(), Stored(contents=WHOLE), "orphaned"),
        (logged(), replace(FINE, contents=Contents.of([row("a")])), "chunks_missing"),
        (logged(), replace(FINE, contents=Contents.of([row("a"), row("b"), row("c")])), "chunks_left_over"),
        (logged(), replace(FINE, contents=Contents.of([row("a"), row("b", text="x")])), "chunks_altered"),
        (logged(), replace(FINE, contents=Contents.of([row("a"), row("b", end=8)])), "chunks_altered"),
        (logged(), replace(FINE, contents=Contents.of([row("b"), row("a")])), "chunks_altered"),
        (logged(), replace(FINE, contents=Contents.of([row("a"), row("b", vector=b"\x01\x01")])), "vectors_altered"),
        (
            logged(),
            replace(FINE, contents=Contents.of([row("a"), row("b", sentence_vectors=b"\x02\x03\x04\x06")])),
            "vectors_altered",
        ),
        (logged(), replace(FINE, contents=Contents.of([row("a"), row("b", acl=["x"])])), "attributes_differ"),
        (logged(), replace(FINE, contents=Contents.of([row("a"), row("b", collection="c")])), "attributes_differ"),
        (logged(), replace(FINE, settled=False), "status_stuck"),
    ],
)
def test_each_kind_of_difference_is_told(log: Logged, stored: Stored, kind: str) -> None:
    assert kind in kinds(log, stored)


def test_a_column_may_give_json_back_in_another_way() -> None:
    as_sent = Contents.of([row("a", metadata={"b": 1.0, "a": [2.0, {"d": 1, "c": None}]}, acl=["y", "x"])])
    as_kept = Contents.of([row("a", metadata={"a": [2, {"c": None, "d": 1}], "b": 1}, acl=["x", "y"])])

    assert as_sent == as_kept


def test_what_is_done_again_is_the_newest_version_that_anybody_knows() -> None:
    assert [each.version for each in differences(KEY, logged(accepted=7), FINE)] == [7]
    assert [each.version for each in differences(KEY, Logged(), Stored(contents=WHOLE))] == [1]
    assert NOTHING.chunks == frozenset()
