"""The bars of overload, on workers that are simulated: what is answered, how fast, and whether promises are kept."""

from functools import cache

import pytest

from gateway.admission.promises import GRACE_S
from tests.gateway.admission.overload import Rush, p95


def settled(**changes: float) -> Rush:
    """Workers that have seen ordinary days."""
    rush = Rush(**changes)  # type: ignore[arg-type]
    scale = rush.service_s / 0.025
    for load in (0.3, 0.6):
        rush.callers(load * rush.drain_per_s, 20 * scale)
        rush.run(20 * scale)
    return rush.forget()


@cache
def normal_p95(**changes: float) -> float:
    """How long answers take on an ordinary day, without any admission in the way."""
    rush = Rush(**changes)  # type: ignore[arg-type]
    scale = rush.service_s / 0.025
    rush.callers(0.6 * rush.drain_per_s, 30 * scale)
    rush.run(30 * scale)
    assert not rush.told_s
    return p95(rush.waits_s)


@pytest.mark.parametrize(("load", "seed"), [(1.2, 1), (3, 1), (3, 2), (6, 1)])
def test_callers_that_come_back_when_told_are_let_in_and_answers_stay_fast(load: float, seed: int) -> None:
    rush = settled(seed=seed)

    rush.callers(load * rush.drain_per_s, 60, patience=5)
    rush.run(60)

    assert rush.ended >= 0.95 * 60 * rush.drain_per_s
    assert p95(rush.waits_s) <= 2 * normal_p95(seed=seed)
    assert rush.promised[1] > 300
    assert rush.kept[1] >= 0.9 * rush.promised[1]


def test_callers_that_never_come_back_starve_nobody() -> None:
    rush = settled()

    rush.callers(3 * rush.drain_per_s, 60)
    rush.run(60)

    assert rush.ended >= 0.95 * 60 * rush.drain_per_s
    assert p95(rush.waits_s) <= 2 * normal_p95()
    # Places that nobody takes up are promised to others as well, so the line is not longer than the rush was.
    assert max(rush.told_s) <= 60 + GRACE_S


def test_half_of_the_callers_coming_back_find_their_place() -> None:
    rush = settled()

    rush.callers(1.5 * rush.drain_per_s, 60, patience=5)
    rush.callers(1.5 * rush.drain_per_s, 60)
    rush.run(60)

    assert rush.ended >= 0.95 * 60 * rush.drain_per_s
    assert rush.kept[1] >= 0.9 * rush.promised[1]


def test_the_cap_finds_what_more_workers_can_do() -> None:
    rush = settled(n_workers=8, service_s=0.1)

    rush.callers(3 * rush.drain_per_s, 60, patience=5)
    rush.run(60)

    assert rush.ended >= 0.95 * 60 * rush.drain_per_s
    assert p95(rush.waits_s) <= 2 * normal_p95(n_workers=8, service_s=0.1)
    assert rush.kept[1] >= 0.9 * rush.promised[1]


def test_before_a_slow_language_model_no_question_runs_out_of_its_time() -> None:
    rush = settled(n_workers=4, service_s=5.0)

    rush.callers(3 * rush.drain_per_s, 2_000, patience=5)
    rush.run(2_000)

    assert rush.ended >= 0.95 * 2_000 * rush.drain_per_s
    assert p95(rush.waits_s) < 30
    assert rush.kept[1] >= 0.9 * rush.promised[1]


def test_a_rush_without_any_day_before_it_is_tamed_too() -> None:
    rush = Rush()

    rush.callers(3 * rush.drain_per_s, 60, patience=5)
    rush.run(60)

    assert rush.ended >= 0.95 * 60 * rush.drain_per_s
    assert p95(rush.waits_s) <= 2 * normal_p95()
    assert rush.kept[1] >= 0.9 * rush.promised[1]


def test_a_flood_of_one_tenant_does_not_turn_another_away() -> None:
    rush = settled()

    rush.callers(3 * rush.drain_per_s, 60, patience=5)
    rush.callers(0.1 * rush.drain_per_s, 60, tenant="globex", patience=5)
    rush.run(60)

    assert rush.first_let_in_of["globex"] >= 0.9 * rush.first_tries_of["globex"]
    assert rush.kept[1] >= 0.9 * rush.promised[1]


def test_ordinary_days_turn_nobody_away() -> None:
    rush = settled()

    rush.callers(0.7 * rush.drain_per_s, 300)
    rush.run(300)

    assert not rush.told_s


def test_when_the_rush_is_over_everybody_who_waits_is_let_in() -> None:
    rush = settled()
    rush.callers(3 * rush.drain_per_s, 20, patience=20)

    rush.run(200)

    assert sum(rush.admitted_after.values()) == rush.first_tries_of["acme"]
    assert not rush.capacity.overloaded
