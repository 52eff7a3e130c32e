"""The rule of the gate, in one place: when a candidate is better, equal or worse, and when nobody can tell.

For each set, and each measure that decides, the mean difference (candidate less base) has a lower and an upper bound,
each with a one-sided confidence of 95 %.

| verdict | of a measure | of all |
| --- | --- | --- |
| `worse` | not `equal`, and the upper bound is below 0 | one is worse |
| `unsure` | neither | one is unsure and none worse, or no set has enough questions |
| `better` | the lower bound is above 0, at an error shared among all measures | one is better, the others equal |
| `equal` | the lower bound is above minus the margin | all are equal |

`better` and `equal` pass. That is a test of non-inferiority: it passes only what is shown to be hardly worse, and too
few questions never show it. As all measures of all sets must pass, each is tested at the whole error
(intersection-union test, Berger 1982); as one better measure suffices, that claim shares it out (Bonferroni).

A set decides if it has enough questions: so many that a candidate at the margin would lose five of them, the usual
condition for bounds on a share. A smaller one can only show that the candidate is worse, from ten questions on.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from streams.operator.gate.bootstrap import resample

Verdict = Literal["better", "equal", "worse", "unsure"]
PASSING: Final[frozenset[str]] = frozenset({"better", "equal"})
_LOST_MIN: Final = 5
WORDS: Final[Mapping[str, str]] = {
    "ndcg": "nDCG@10 over documents",
    "passage": "the share of questions whose answering passage is found",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The numbers of the rule; those here were chosen by `python -m tests.bench.gate errors`.

    Attributes:
        margin: by so much a candidate may be worse at most.
        confidence: one-sided, of each bound.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        veto_min: with fewer questions a set says nothing.
    """

    margin: float = 0.05
    confidence: float = 0.95
    resamples: int = 10_000
    seed: int = 20_26
    veto_min: int = 10

    @property
    def questions_min(self) -> int:
        """With fewer questions a set cannot pass a candidate."""
        return math.ceil(round(_LOST_MIN / self.margin, 6))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A measure of a set that decides, judged. `low` and `high` bound the difference."""

    set: str
    measure: str
    n: int
    base: float
    candidate: float
    difference: float
    low: float
    high: float
    verdict: Verdict

    def told(self) -> str:
        """Say it in one clause."""
        what = f"{WORDS.get(self.measure, self.measure)} goes from {self.base:.3f} to {self.candidate:.3f}"
        bounds = f"{self.difference:+.3f}, {self.low:+.3f} to {self.high:+.3f}"
        return f"{what} on {self.n} questions of {self.set!r} ({bounds})"


Pairs = Sequence[tuple[float, float]]
"""What base and candidate have on each question."""


def judge(rule: Rule, set: str, measure: str, pairs: Pairs, n_claims: int = 1) -> Judged:
    """Judge one measure of one set of at least one question.

    Args:
        rule: numbers.
        set: its name.
        measure: its name.
        pairs: base and candidate.
        n_claims: measures that may claim to be better.
    """
    values = np.asarray(pairs, np.float64)
    resampled = resample(values[:, 1] - values[:, 0], rule.resamples, rule.seed)
    error = 1 - rule.confidence
    low, high = resampled.low(error), resampled.high(error)
    verdict: Verdict = "unsure"
    if len(values) >= rule.questions_min and low > -rule.margin:
        verdict = "better" if resampled.low(error / n_claims) > 0 else "equal"
    elif len(values) >= rule.veto_min and high < 0:
        verdict = "worse"
    base, candidate = (float(mean) for mean in values.mean(axis=0))
    return Judged(
        set=set,
        measure=measure,
        n=len(values),
        base=base,
        candidate=candidate,
        difference=resampled.mean,
        low=low,
        high=high,
        verdict=verdict,
    )


def decide(rule: Rule, measured: Mapping[tuple[str, str], Pairs]) -> tuple[Verdict, str, list[Judged]]:
    """Judge a candidate.

    Args:
        rule: numbers.
        measured: by set and measure; only measures that decide, none of them empty.

    Returns:
        Its verdict, the reason in a sentence, and each measure.
    """
    n_claims = sum(len(pairs) >= rule.questions_min for pairs in measured.values())
    judged = [judge(rule, *names, pairs, n_claims=max(1, n_claims)) for names, pairs in measured.items()]
    worse = [each for each in judged if each.verdict == "worse"]
    if worse:
        worst = min(worse, key=lambda each: each.high)
        return "worse", f"{worst.told()}; that is worse, with {rule.confidence:.0%} confidence", judged
    counted = [each for each in judged if each.n >= rule.questions_min]
    if not counted:
        most = max((each.n for each in judged), default=0)
        needed = f"to show that it is worse by less than {rule.margin} takes {rule.questions_min} labelled questions"
        return "unsure", f"{needed} in a set, and the largest set has {most}", judged
    unsure = [each for each in counted if each.verdict == "unsure"]
    if unsure:
        least = min(unsure, key=lambda each: each.low)
        told = f"{least.told()}; it may be worse by more than {rule.margin}, and more questions would tell"
        return "unsure", told, judged
    better = [each for each in counted if each.verdict == "better"]
    if better:
        best = max(better, key=lambda each: each.low)
        return "better", f"{best.told()}, and nothing is worse by more than {rule.margin}", judged
    lowest = min(counted, key=lambda each: each.low)
    return "equal", f"nothing is worse by more than {rule.margin}: at the least, {lowest.told()}", judged
