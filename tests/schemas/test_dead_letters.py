"""What the headers of a dead letter say."""

import pytest

from schemas.codec import headers_of
from schemas.dead_letters import MESSAGE_MAX_CHARS, NoDeadLetter, Why

WHY = Why(
    stage="intake",
    reason="not_utf8",
    message="byte 3 is not UTF-8",
    attempts=1,
    topic="rag.ingest.v1",
    topic_id="t1",
    partition=3,
    offset=9,
    timestamp_ms=500,
    group="rag.intake",
)


def test_they_are_read_back_as_they_were_written() -> None:
    assert Why.of(headers_of(WHY.headers())) == WHY


def test_what_failed_again_tells_of_its_last_failure() -> None:
    again = Why(**{name: getattr(WHY, name) for name in WHY.__slots__} | {"attempts": 4, "offset": 77})

    assert Why.of(headers_of([*WHY.headers(), *again.headers()])) == again


def test_a_long_message_is_cut() -> None:
    long = Why(**{name: getattr(WHY, name) for name in WHY.__slots__} | {"message": "x" * 9_000})

    assert len(Why.of(headers_of(long.headers())).message) == MESSAGE_MAX_CHARS


@pytest.mark.parametrize("missing", ["hr_dlq_reason", "hr_dlq_offset"])
def test_other_headers_are_refused(missing: str) -> None:
    headers = headers_of(WHY.headers())
    del headers[missing]

    with pytest.raises(NoDeadLetter):
        Why.of(headers)


def test_a_letter_of_a_former_release_names_no_group() -> None:
    headers = headers_of(WHY.headers())
    del headers["hr_dlq_group"]

    assert Why.of(headers).group == ""


def test_a_place_that_is_no_number_is_refused() -> None:
    with pytest.raises(NoDeadLetter):
        Why.of(headers_of(WHY.headers()) | {"hr_dlq_partition": b"x"})
