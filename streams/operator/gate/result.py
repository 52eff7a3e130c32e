"""What is kept of each question of a gate, and the report that is made of all of them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from streams.operator.gate.bench import Asked
from streams.operator.gate.measure import DECIDING, likeness, measures
from streams.operator.gate.question import Kind, Question
from streams.operator.gate.verdict import PASSING, Judged, Rule, decide

SCHEMA: Final = 1
TOP: Final = 3
TEXT_MAX_CHARS: Final = 400
EXAMPLES: Final = 10
"""Worst losses, and best gains, that a report shows of each set."""
_BINS: Final = 21


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A passage that was found; `text` is its beginning."""

    document: str
    text: str
    score: float


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """What one generation made of a question."""

    measures: dict[str, float]
    sources: list[Source]
    answer: str
    seconds: float


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One question, asked of both. `left_out`: why it says nothing; then the sides are empty."""

    set: str
    kind: Kind
    tenant: str
    text: str
    base: Side | None = None
    candidate: Side | None = None
    likeness: dict[str, float] = {}
    left_out: str | None = None

    @classmethod
    def of(cls, question: Question, base: Asked, candidate: Asked) -> "Result":
        """Measure a question."""
        return cls(
            set=question.set,
            kind=question.kind,
            tenant=question.tenant,
            text=question.text,
            base=_side(question, base),
            candidate=_side(question, candidate),
            likeness=likeness(base, candidate),
        )

    @classmethod
    def without(cls, question: Question, why: str) -> "Result":
        """Leave a question out."""
        return cls(set=question.set, kind=question.kind, tenant=question.tenant, text=question.text, left_out=why)


def _side(question: Question, asked: Asked) -> Side:
    return Side(
        measures=measures(question, asked) | dict(asked.scores),
        sources=[
            Source(document=hit.document, text=hit.text[:TEXT_MAX_CHARS], score=hit.score) for hit in asked.hits[:TOP]
        ],
        answer=asked.answer[:TEXT_MAX_CHARS],
        seconds=asked.seconds,
    )


def report(candidate: str, base: str, rule: Rule, results: Sequence[Result]) -> dict[str, Any]:
    """Judge a candidate by all its questions.

    Returns:
        JSON values, as docs/designs/gate.md describes them.
    """
    by_set: dict[str, list[Result]] = {}
    for each in results:
        by_set.setdefault(each.set, []).append(each)
    measured = {
        (name, measure): pairs
        for name, held in by_set.items()
        for measure in DECIDING
        if (pairs := _pairs(held, measure))
    }
    verdict, reason, judged = decide(rule, measured)
    found = {(each.set, each.measure): each for each in judged}
    return {
        "schema": SCHEMA,
        "candidate": candidate,
        "base": base,
        "verdict": verdict,
        "passed": verdict in PASSING,
        "reason": reason,
        "rule": {
            "margin": rule.margin,
            "confidence": rule.confidence,
            "resamples": rule.resamples,
            "seed": rule.seed,
            "questions_min": rule.questions_min,
        },
        "sets": [_set(name, held, found) for name, held in by_set.items()],
    }


def _pairs(results: Iterable[Result], measure: str) -> list[tuple[float, float]]:
    return [
        (each.base.measures[measure], each.candidate.measures[measure])
        for each in results
        if each.base is not None
        and each.candidate is not None
        and measure in each.base.measures
        and measure in each.candidate.measures
    ]


def _set(name: str, results: Sequence[Result], judged: Mapping[tuple[str, str], Judged]) -> dict[str, Any]:
    asked = [each for each in results if each.left_out is None]
    names = list(dict.fromkeys(measure for each in asked if each.base for measure in each.base.measures))
    order = sorted(asked, key=_gain)
    return {
        "name": name,
        "kind": results[0].kind,
        "n": len(asked),
        "left_out": dict(Counter(each.left_out for each in results if each.left_out)),
        "measures": [
            _measure(measure, pairs, judged.get((name, measure)))
            for measure in names
            if (pairs := _pairs(asked, measure))
        ],
        "likeness": {
            key: _mean([each.likeness[key] for each in asked]) for key in (asked[0].likeness if asked else ())
        },
        "seconds": {
            side: _mean([found.seconds for each in asked if (found := getattr(each, side)) is not None])
            for side in ("base", "candidate")
        },
        "losses": [_example(each) for each in order[:EXAMPLES] if _gain(each) < 0],
        "gains": [_example(each) for each in order[::-1][:EXAMPLES] if _gain(each) > 0],
        "unlike": [_example(each) for each in _unlike(asked)[:EXAMPLES]],
    }


def _measure(name: str, pairs: Sequence[tuple[float, float]], judged: Judged | None) -> dict[str, Any]:
    values = np.asarray(pairs, np.float64)
    differences = values[:, 1] - values[:, 0]
    counts, edges = np.histogram(differences, bins=_BINS, range=(-1.0, 1.0))
    told: dict[str, Any] = {
        "name": name,
        "n": len(pairs),
        "base": _rounded(values[:, 0].mean()),
        "candidate": _rounded(values[:, 1].mean()),
        "difference": _rounded(differences.mean()),
        "n_better": int((differences > 0).sum()),
        "n_worse": int((differences < 0).sum()),
        "histogram": {"edges": [_rounded(edge) for edge in edges], "counts": counts.tolist()},
    }
    if judged is not None:
        told |= {"low": _rounded(judged.low), "high": _rounded(judged.high), "verdict": judged.verdict}
    return told


def _gain(result: Result) -> float:
    """Return by how much a question gained, over the measures that decide."""
    if result.base is None or result.candidate is None:
        return 0.0
    held = result.base.measures.keys() & set(DECIDING)
    return sum(result.candidate.measures[name] - result.base.measures[name] for name in held)


def _unlike(results: Sequence[Result]) -> list[Result]:
    """Return questions without labels on which the generations differ most."""
    unlabelled = [each for each in results if each.kind == "logged" and each.likeness["overlap"] < 1]
    return sorted(unlabelled, key=lambda each: (each.likeness["overlap"], each.likeness["agreement"]))


def _example(result: Result) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(result)
    return {key: told[key] for key in ("tenant", "text", "base", "candidate", "likeness")} | {
        "difference": _rounded(_gain(result))
    }


def _mean(values: Sequence[float]) -> float | None:
    return _rounded(float(np.mean(values))) if values else None


def _rounded(value: float) -> float:
    return round(float(value), 4)
