"""The paired bootstrap: how far the mean of paired differences may be off.

Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13 (percentile intervals); for measures of
retrieval Smucker, Allan and Carterette, CIKM 2007.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_BLOCK: Final = 2_000_000
"""Numbers drawn at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """The mean of differences, and its `means` over resamples, in order."""

    mean: float
    means: npt.NDArray[Any]

    def low(self, error: float) -> float:
        """Return the one-sided lower bound that the true mean is below with this probability."""
        return float(np.quantile(self.means, error))

    def high(self, error: float) -> float:
        """Return the one-sided upper bound."""
        return float(np.quantile(self.means, 1 - error))


def resample(differences: Sequence[float] | npt.NDArray[Any], resamples: int, seed: int) -> Resampled:
    """Draw questions with replacement, as many as there are, again and again.

    Args:
        differences: candidate less base, one for each question, at least one.
        resamples: how often.
        seed: the same seed gives the same bounds.
    """
    values, counts = np.unique(np.asarray(differences, np.float64), return_counts=True)
    n, random = int(counts.sum()), np.random.default_rng(seed)
    block = max(1, _BLOCK // len(values))
    sizes = [min(block, resamples - done) for done in range(0, resamples, block)]
    # how often each value is drawn, instead of each question: the same distribution, and equal values are many
    means = [random.multinomial(n, counts / n, size) @ values / n for size in sizes]
    return Resampled(mean=float(values @ counts / n), means=np.sort(np.concatenate(means)))
