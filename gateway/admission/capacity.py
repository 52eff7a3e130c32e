"""How many questions may be open at once: a little more than end in the time that one takes when few are asked.

By Little's law that many keep every worker busy; more would only wait, and make each other slow.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean as mean
from typing import Final

SEEN: Final = 50
"""So many of the last ends are looked at."""

SEEN_S: Final = 30.0
"""Those that are older are not."""

FLOOR: Final = 2
"""The cap never falls under this, so that there is always something to measure."""

SLACK: Final = 1.5
"""1 would keep the workers busy on average; the rest evens out chance."""

KEPT_MAX: Final = 8
"""Most places over that, kept for callers who were promised one; chance seldom brings more of them at once."""

BURST: Final = 64
BURST_LEAST: Final = 16
BURST_S: Final = 1.0
"""A rush that passes may fill `BURST` places, or as many as end within this time, but `BURST_LEAST` always."""

STANDING_S: Final = 0.6
"""A rush that lasts longer is overload."""

_START_PER_S: Final = 32.0
"""What is taken for the drain before anything has ended."""

_TRUST: Final = 0.3
"""Weight of the newest look against all that came before."""

_LEARN: Final = 0.1
_MIN_SEEN: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A question that has ended: whose, how long ago, and how long after its acceptance."""

    tenant: str
    ago_s: float
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """How many questions were open since the look before: at least and at most."""

    trough: int
    peak: int


@dataclass(kw_only=True)
class Capacity:
    """The cap on open questions, from what was seen.

    Attributes:
        most: the cap never rises over this.
        least: nor falls under this.
        alone_s: time of a question when few are asked; None before it was seen.
        overloaded: more than the steady cap have been open all the time, for a while; or callers wait for their places.
    """

    most: int
    least: int = FLOOR
    alone_s: float | None = None
    overloaded: bool = False
    _drain_per_s: float = field(default=0.0, init=False)
    _crowds: deque[tuple[float, Crowd]] = field(default_factory=deque, init=False)
    _few_since_s: float | None = field(default=None, init=False)

    @property
    def cap(self) -> int:
        """How many may be open."""
        steady = self._steady + self._kept
        burst = 0 if self.overloaded else min(BURST, max(BURST_LEAST, math.ceil(self.drain_per_s * BURST_S)))
        return max(1, min(self.most, max(steady, burst)))

    @property
    def kept(self) -> int:
        """How many of them are kept, while anybody is promised a place, for those who are."""
        return min(self._kept, self.cap // 2)

    @property
    def drain_per_s(self) -> float:
        """Questions that end per second when as many are asked as can be."""
        return self._drain_per_s or _START_PER_S

    @property
    def _busy(self) -> float:
        return self._drain_per_s * (self.alone_s or 0)

    @property
    def _steady(self) -> int:
        return max(FLOOR, self.least, math.ceil(SLACK * self._busy))

    @property
    def _kept(self) -> int:
        return min(KEPT_MAX, max(2, math.ceil(4 * self._busy)))

    def observe(self, now_s: float, crowd: Crowd, ended: Sequence[Ended], *, limited: bool, waiting: bool) -> None:
        """Learn from a look.

        Args:
            now_s: monotonic.
            crowd: since the look before.
            ended: at most the last `SEEN`, of the last `SEEN_S` seconds, the newest first.
            limited: the cap turned somebody away since the look before, so the drain is all that the workers can do.
            waiting: callers wait for places that were promised to them.
        """
        self._learn_alone(now_s, crowd, ended)
        standing = self._standing(now_s, crowd)
        per_s = rate(ended)
        if per_s > 0 and (limited or standing):
            # Where nothing ends at all something is broken, and a smaller cap would not mend it.
            self._drain_per_s += _TRUST * (per_s - self._drain_per_s)
        else:
            self._drain_per_s = max(self._drain_per_s, per_s)
        # Before it is known how long a question takes alone, only a full house tells of overload.
        crowded = standing if self.alone_s is not None else limited
        self.overloaded = per_s > 0 and (crowded or (self.overloaded and waiting))

    def _standing(self, now_s: float, crowd: Crowd) -> bool:
        """Whether more than the steady cap were open all the time."""
        self._crowds.append((now_s, crowd))
        since_s = now_s - max(STANDING_S, self.alone_s or 0)
        if self._crowds[0][0] > since_s:
            return False
        while len(self._crowds) > 1 and self._crowds[1][0] <= since_s:
            self._crowds.popleft()
        return min(each.trough for _, each in self._crowds) >= self._steady + self._kept

    def _learn_alone(self, now_s: float, crowd: Crowd, ended: Sequence[Ended]) -> None:
        """Learn from questions that had no company."""
        if crowd.peak > (FLOOR + self._kept if self.alone_s is None else max(FLOOR, self._busy / 2)):
            self._few_since_s = None
        elif self._few_since_s is None:
            self._few_since_s = now_s
        if len(ended) < _MIN_SEEN:
            return
        took_s = mean(each.took_s for each in ended)
        for_s = 0.0 if self._few_since_s is None else now_s - self._few_since_s
        # Of what was accepted lately only the quick ones have ended.
        alone = [each.took_s for each in ended if 3 * took_s < each.ago_s + each.took_s < for_s]
        if len(alone) >= _MIN_SEEN:
            self.alone_s = mean(alone) if self.alone_s is None else self.alone_s + _LEARN * (mean(alone) - self.alone_s)
        elif self.alone_s and len(ended) == SEEN and took_s < self.alone_s:
            # Company makes no question faster.
            self.alone_s += _TRUST * (took_s - self.alone_s)


def rate(ended: Sequence[Ended]) -> float:
    """Return how many ended per second.

    Args:
        ended: as `Capacity.observe` wants them.
    """
    span_s = ended[-1].ago_s if len(ended) == SEEN else SEEN_S
    return len(ended) / max(span_s, 0.001)
