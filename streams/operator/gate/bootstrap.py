"""The paired bootstrap: how far the mean of paired differences may be off.

Bounds are bias-corrected and accelerated (BCa): a few large losses among many zeros make means lopsided, and plain
percentiles would then pass too much. Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 14; for
measures of retrieval Smucker, Allan and Carterette, CIKM 2007.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_BLOCK: Final = 2_000_000
"""Numbers drawn at once."""
_NORMAL: Final = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resampled:
    """The mean of differences, and its `means` over resamples, in order.

    Attributes:
        mean: of the differences themselves.
        means: at least one.
        bias: of the median of the means, in standard deviations.
        acceleration: how fast the spread of the mean changes with the mean; a sixth of its skewness.
    """

    mean: float
    means: npt.NDArray[Any]
    bias: float
    acceleration: float

    def low(self, error: float) -> float:
        """Return the one-sided lower bound that the true mean is below with this probability."""
        return self._quantile(error)

    def high(self, error: float) -> float:
        """Return the one-sided upper bound."""
        return self._quantile(1 - error)

    def _quantile(self, share: float) -> float:
        moved = self.bias + _NORMAL.inv_cdf(share)
        return float(np.quantile(self.means, _NORMAL.cdf(self.bias + moved / (1 - self.acceleration * moved))))


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
    means = np.concatenate([random.multinomial(n, counts / n, size) @ values / n for size in sizes])
    mean = float(values @ counts / n)
    apart = values - mean
    spread = float(counts @ apart**2)
    below = (np.count_nonzero(means < mean) + 0.5 * np.count_nonzero(means == mean)) / resamples
    return Resampled(
        mean=mean,
        means=np.sort(means),
        bias=_NORMAL.inv_cdf(min(max(below, 1 / resamples), 1 - 1 / resamples)) if spread else 0.0,
        acceleration=float(counts @ apart**3) / (6 * spread**1.5) if spread else 0.0,
    )
