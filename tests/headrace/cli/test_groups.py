"""What `headrace groups reset` takes for a time."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.headrace.cli.conftest import Headrace

REFUSED = {
    "yesterday": "is no time; expected one with its zone",
    "2026-11-26T18:00:00": "is no time; expected one with its zone",
    (datetime.now(UTC) + timedelta(hours=1)).isoformat(): "lies in the future",
    (datetime.now(UTC) - timedelta(days=31)).isoformat(): "deletes are kept for 30 days only",
}


@pytest.mark.parametrize(("to", "why"), REFUSED.items(), ids=REFUSED.values())
def test_a_time_that_no_reset_can_go_back_to_is_a_usage_error(headrace: Headrace, to: str, why: str) -> None:
    result = headrace("groups", "reset", "--to", to)

    assert result.exit_code == 2
    assert why in " ".join(result.output.replace("│", " ").split())
