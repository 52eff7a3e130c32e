"""What a soak says of growth, from histories that are made up."""

from typing import Any

import pytest

from tests.faults.soak import growths, restarted


def gauges(part: str, memory: list[int], handles: list[int] | None = None) -> list[dict[str, Any]]:
    each = zip(memory, handles or [10] * len(memory), strict=True)
    return [
        {"kind": "gauge_during", "part": part, "rss_bytes": rss, "handles": n, "uptime_s": 15.0 * at}
        for at, (rss, n) in enumerate(each)
    ]


def test_a_part_that_warms_up_and_then_holds_has_not_grown() -> None:
    (found,) = growths(gauges("gateway-2", [50, 80, 100, 101, 99, 100, 102, 101]))

    assert not found.grew
    assert found.memory == (100.5, 101.5)


@pytest.mark.parametrize(
    ("memory", "handles"), [([100 + 5 * n for n in range(16)], [10] * 16), ([100] * 16, [10 + n for n in range(16)])]
)
def test_a_part_that_rises_slowly_has_grown(memory: list[int], handles: list[int]) -> None:
    (found,) = growths(gauges("worker-score", memory, handles))

    assert found.grew


def test_a_part_that_began_anew_is_not_judged() -> None:
    entries = gauges("gateway", [100] * 8)
    entries[5]["uptime_s"] = 1.0

    assert growths(entries) == []


def test_a_part_that_began_anew_though_nobody_killed_it_is_told() -> None:
    anew = [entry | {"uptime_s": 0.0} for entry in gauges("kafka", [100] * 2)]

    assert restarted(gauges("kafka", [100] * 8) + anew[:1] + gauges("worker-score", [100] * 8)) == ["kafka"]
    assert restarted(gauges("postgres", [100] * 8) + [entry | {"part": "postgres"} for entry in anew]) == []


def test_too_few_looks_say_nothing() -> None:
    with pytest.raises(ValueError, match="let the run take longer"):
        growths(gauges("kafka", [100] * 7))
