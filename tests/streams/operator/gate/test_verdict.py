"""The rule of the gate."""

import numpy as np
import pytest

from streams.operator.gate.bootstrap import resample
from streams.operator.gate.verdict import Rule, decide, judge

RULE = Rule()


def pairs(n: int, *, lost: int = 0, won: int = 0) -> list[tuple[float, float]]:
    return [(1.0, 0.0)] * lost + [(0.0, 1.0)] * won + [(1.0, 1.0)] * (n - lost - won)


def test_bounds_are_those_of_the_normal_distribution_for_many_questions() -> None:
    differences = np.random.default_rng(1).normal(0.1, 0.5, 2_000)
    off = 1.645 * differences.std() / 2_000**0.5

    found = resample(differences, 10_000, 3)

    assert found.low(0.05) == pytest.approx(differences.mean() - off, abs=0.001)
    assert found.high(0.05) == pytest.approx(differences.mean() + off, abs=0.001)
    assert len(found.means) == 10_000


def test_the_same_seed_gives_the_same_bounds() -> None:
    differences = np.random.default_rng(1).normal(size=50)

    assert np.array_equal(resample(differences, 500, 3).means, resample(differences, 500, 3).means)
    assert not np.array_equal(resample(differences, 500, 3).means, resample(differences, 500, 4).means)


@pytest.mark.parametrize(("margin", "n"), [(0.05, 100), (0.03, 167), (0.15, 34), (0.25, 20), (0.1, 50)])
def test_so_many_questions_are_needed_that_five_would_be_lost_at_the_margin(margin: float, n: int) -> None:
    assert Rule(margin=margin).questions_min == n


def test_a_few_large_losses_push_the_lower_bound_further_than_the_upper_one() -> None:
    found = resample([-1.0] * 5 + [0.0] * 95, 10_000, 3)

    # the exact bounds on 5 lost of 100 are .0199 and .1022 (Clopper and Pearson)
    assert found.low(0.05) == pytest.approx(-0.1, abs=0.011)
    assert found.high(0.05) == pytest.approx(-0.02, abs=0.011)
    assert -0.05 - found.low(0.05) > found.high(0.05) + 0.05


def test_bounds_of_what_never_differs_are_that_difference() -> None:
    found = resample([0.25] * 7, 100, 3)

    assert (found.low(0.05), found.mean, found.high(0.05)) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize(
    ("lost", "won", "n", "verdict"),
    [
        (0, 0, 100, "equal"),
        (1, 1, 100, "equal"),
        (0, 10, 100, "better"),
        (20, 0, 100, "worse"),
        (10, 10, 100, "unsure"),
        (0, 0, 99, "unsure"),
        (10, 0, 20, "worse"),
        (9, 0, 9, "unsure"),
    ],
)
def test_a_measure_is_judged_by_both_bounds_and_the_number_of_questions(
    lost: int, won: int, n: int, verdict: str
) -> None:
    assert judge(RULE, "s", "ndcg", pairs(n, lost=lost, won=won)).verdict == verdict


def test_what_is_surely_worse_by_less_than_the_margin_passes() -> None:
    found = judge(RULE, "s", "ndcg", [(0.5, 0.49)] * 100)

    assert (found.verdict, round(found.high, 3)) == ("equal", -0.01)


def test_none_of_several_sets_may_be_worse() -> None:
    good = pairs(200, won=100)

    verdict, reason, judged = decide(RULE, {("a", "ndcg"): good, ("b", "passage"): pairs(100, lost=30)})

    assert verdict == "worse"
    assert "'b'" in reason and "from 1.000 to 0.700" in reason
    assert [each.verdict for each in judged] == ["better", "worse"]


def test_an_unsure_set_holds_a_better_one_up() -> None:
    verdict, reason, _ = decide(RULE, {("a", "ndcg"): pairs(200, won=99), ("b", "ndcg"): pairs(100, lost=8, won=8)})

    assert verdict == "unsure"
    assert "may be worse by more than 0.05" in reason


def test_a_small_set_can_only_fail_a_candidate() -> None:
    large, small = ("a", "ndcg"), ("golden", "passage")

    assert decide(RULE, {large: pairs(100), small: pairs(20, lost=1, won=1)})[0] == "equal"
    assert decide(RULE, {large: pairs(100), small: pairs(20, won=9)})[0] == "equal"
    assert decide(RULE, {large: pairs(100, won=50), small: pairs(20, lost=8)})[0] == "worse"


def test_without_enough_questions_nobody_can_tell_and_the_reason_says_how_many_it_takes() -> None:
    for measured, most in (({}, 0), ({("golden", "ndcg"): pairs(20)}, 20)):
        verdict, reason, _ = decide(RULE, measured)

        assert verdict == "unsure"
        assert "takes 100 labelled questions" in reason and reason.endswith(f"has {most}")
