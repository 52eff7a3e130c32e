"""What the gate says: how often it errs, and of candidates whose worth is known.

`python -m tests.bench.gate errors` draws questions from a model of two generations, and prints how often each true
difference gets which verdict. `python -m tests.bench.gate samples --data DIR --model DIR` indexes real corpora as
several generations and prints the verdict on each candidate.
"""

import argparse
import asyncio
from collections import Counter
from collections.abc import Sequence

import numpy as np

from streams.operator.gate.verdict import Rule, decide
from tests.bench import gate_samples

DRAWS = 400
RANKS = np.array([0.55, 0.15, 0.07, 0.05, 0.03, 0.02, 0.02, 0.01, 0.01, 0.01, 0.08])
"""How often the base has the relevant document at place 1 to 10, and not at all, as hybrid search on open questions."""
GAINS = np.array([*(1 / np.log2(np.arange(10) + 2)), 0.0])
SIZES = (1, 2, 4, 8)
"""Numbers of questions, as multiples of the fewest that decide."""
DIFFERENCES = (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0)
"""True ones, as multiples of the margin."""
MARGINS = (0.05, 0.1, 0.25)
CHANGED = (0.1, 0.3)


def drawn(n: int, difference: float, changed: float, random: np.random.Generator) -> list[tuple[float, float]]:
    """Draw nDCG@10 of both on `n` questions.

    A share `changed` of the questions gets another place, drawn from the same distribution; of all questions so many
    go to the first place, or out of the ten, that the true mean difference is `difference`.
    """
    base = random.choice(GAINS, n, p=RANKS)
    candidate = np.where(random.random(n) < changed, random.choice(GAINS, n, p=RANKS), base)
    mean = float(GAINS @ RANKS)
    share = difference / (1 - mean) if difference > 0 else -difference / mean
    moved = random.random(n) < share
    return list(zip(base, np.where(moved, float(difference > 0), candidate), strict=True))


def rates(rule: Rule, n: int, difference: float, changed: float, draws: int, n_measures: int = 1) -> Counter[str]:
    """Count the verdicts over independent draws; with several measures each has questions of its own."""
    random = np.random.default_rng([n, round(1e6 * (difference + 1)), round(1e3 * changed), n_measures])
    verdicts: Counter[str] = Counter()
    for _ in range(draws):
        measured = {(f"s{k}", "ndcg"): drawn(n, difference, changed, random) for k in range(n_measures)}
        verdicts[decide(rule, measured)[0]] += 1
    return verdicts


def share(verdicts: Counter[str], *names: str) -> str:
    """Return how often one of these verdicts came, percent."""
    return f"{100 * sum(verdicts[name] for name in names) / verdicts.total():.1f}"


def errors(draws: int, margins: Sequence[float]) -> None:
    """Print how often each true difference passes, and is called better or worse."""
    print("| margin | changed | questions | true difference | passes % | better % | worse % | unsure % |")
    print("|---|---|---|---|---|---|---|---|")
    for margin in margins:
        rule = Rule(margin=margin)
        for changed in CHANGED:
            for n in (size * rule.questions_min for size in SIZES):
                for difference in (multiple * margin for multiple in DIFFERENCES):
                    found = rates(rule, n, difference, changed, draws)
                    cells = [share(found, "better", "equal"), *(share(found, v) for v in ("better", "worse", "unsure"))]
                    print(f"| {margin} | {changed} | {n} | {difference:+.3f} | {' | '.join(cells)} |", flush=True)
    print("\nthree sets at once, margin 0.05, changed 0.1")
    for n in (200, 400, 800):
        for difference in (-0.05, 0.0):
            found = rates(Rule(), n, difference, 0.1, draws, n_measures=3)
            passes, worse = share(found, "better", "equal"), share(found, "worse")
            print(f"{n} questions each, {difference:+.3f}: passes {passes} %, worse {worse} %")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    simulated = what.add_parser("errors")
    simulated.add_argument("--draws", type=int, default=DRAWS, help="of each row")
    simulated.add_argument("--margins", type=float, nargs="+", default=MARGINS)
    gate_samples.arguments(what.add_parser("samples"))
    args = parser.parse_args()
    if args.what == "errors":
        errors(args.draws, args.margins)
    else:
        asyncio.run(gate_samples.samples(args))


if __name__ == "__main__":
    main()
