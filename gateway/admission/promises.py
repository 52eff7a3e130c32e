"""Places promised to callers who were turned away: who returns at the stated time goes before strangers.

Each tenant has a line. Its places are as far apart as the drain allows; who is turned away next gets the next place,
and is told how long it is until then. Who does not come in time loses the place, and the share of those who do come
says how many places may be promised.
"""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

GRACE_S: Final = 5.0
"""How long a place is kept after its time. `Retry-After` counts whole seconds, so callers come up to one late."""

MAX_WAIT_S: Final = 300.0
"""The longest wait that is promised."""

MAX_PLACES: Final = 20_000
"""Most places that are promised at a time."""

BOOKED: Final = 0.3
"""Share of the drain that is promised; the rest absorbs chance, and lets in who has not asked before."""

BOOKED_ALONE: Final = 0.85
"""Share of that which one tenant may be promised while no other has a line."""

PHASES_MAX: Final = 8
PER_PHASE: Final = 4.0
"""Places per second of one phase of a line, at least, as long as there is more than one phase."""

EARLY_S: Final = 0.01
"""Clocks may bring a caller this much before its time; more would let in others who ask the same."""

MIN_SHARE: Final = 0.12
WEIGHT: Final = 0.04
"""Weight of one place in the share of places that are taken up."""


class Promises(Protocol):
    """The lines. Times are seconds from now."""

    async def redeem(self, tenant: str, who: str, *, early: bool) -> float | None:
        """Take up a place.

        Args:
            tenant: of the caller.
            who: names the caller.
            early: take the place up even before its time, because there is room.

        Returns:
            0: the place was taken up; else the time until the caller's next place; None: it has none.
        """
        ...

    async def book(self, tenant: str, who: str, *, per_s: float, again: bool) -> int | None:
        """Promise the next place of the tenant's line.

        Args:
            tenant: of the caller.
            who: names the caller; who is named alike shares its places, the first one first.
            per_s: how many questions end per second.
            again: the caller was promised a place and was turned away all the same.

        Returns:
            The time until then; None: the line is too long, and nothing is promised.
        """
        ...

    async def waiting(self) -> int:
        """Return the number of places that are promised and neither taken up nor lost."""
        ...


@dataclass(slots=True)
class Line:
    """The places of one tenant that come next.

    `Retry-After` counts whole seconds, so a caller returns in the same phase of a second in which it was turned away.
    Were the places of all phases one row, everybody who is turned away within some time would be told the same number
    and return in one crowd; so each phase of the second has a row of its own.

    Attributes:
        next_s: time of the next place, by phase.
    """

    next_s: list[float] = field(default_factory=lambda: [0.0])

    def book(self, now_s: float, per_s: float) -> int:
        """Return the whole seconds until the next place, at least 1, and move on.

        Args:
            now_s: time.
            per_s: places per second, of the whole line.
        """
        n = max(1, min(PHASES_MAX, int(per_s / PER_PHASE)))
        if n != len(self.next_s):
            self.next_s = [self.next_s[phase * len(self.next_s) // n] for phase in range(n)]
        phase = int(now_s % 1 * n)
        next_s = max(self.next_s[phase], now_s + EARLY_S)
        self.next_s[phase] = next_s + n / per_s
        return math.ceil(next_s - now_s)

    def ends_s(self) -> float:
        """Return the time from which nobody is in the line."""
        return max(self.next_s)


@dataclass(kw_only=True)
class MemoryPromises:
    """`Promises` of one process.

    Attributes:
        clock: seconds, monotonic.
        on_lapsed: called with the number of places that were lost because nobody came.
    """

    clock: Callable[[], float]
    on_lapsed: Callable[[int], None] = lambda n: None
    _share: float = field(default=1.0, init=False)
    _lines: dict[str, Line] = field(default_factory=dict, init=False)
    _of: dict[str, list[float]] = field(default_factory=dict, init=False)
    _all: list[tuple[float, str]] = field(default_factory=list, init=False)
    _n: int = field(default=0, init=False)

    async def redeem(self, tenant: str, who: str, *, early: bool) -> float | None:
        """See `Promises`."""
        now_s = self._lapse()
        dues = self._of.get(who)
        if not dues:
            return None
        if dues[0] > now_s + EARLY_S and not early:
            return dues[0] - now_s
        heapq.heappop(dues)
        self._n -= 1
        self._share += WEIGHT * (1 - self._share)
        if not dues:
            del self._of[who]
        return 0.0

    async def book(self, tenant: str, who: str, *, per_s: float, again: bool) -> int | None:
        """See `Promises`."""
        now_s = self._lapse()
        dues = self._of.setdefault(who, [])
        wait_s = 1 if again else self._line(tenant, per_s, now_s)
        if wait_s > MAX_WAIT_S or self._n >= MAX_PLACES:
            if not dues:
                del self._of[who]
            return None
        due_s = now_s + wait_s
        heapq.heappush(dues, due_s)
        heapq.heappush(self._all, (due_s, who))
        self._n += 1
        return wait_s

    async def waiting(self) -> int:
        """See `Promises`."""
        self._lapse()
        return self._n

    def _line(self, tenant: str, per_s: float, now_s: float) -> int:
        """Take the next place of the tenant's line; return the seconds until then."""
        self._lines = {each: line for each, line in self._lines.items() if line.ends_s() > now_s}
        n_lines = len(self._lines.keys() | {tenant})
        places_per_s = per_s * BOOKED * (BOOKED_ALONE if n_lines == 1 else 1 / n_lines) / max(self._share, MIN_SHARE)
        return self._lines.setdefault(tenant, Line()).book(now_s, places_per_s)

    def _lapse(self) -> float:
        """Drop the places that nobody took up in time; return the time."""
        now_s = self.clock()
        n_lapsed = 0
        while self._all and self._all[0][0] < now_s - GRACE_S:
            due_s, who = heapq.heappop(self._all)
            dues = self._of.get(who)
            if dues and dues[0] <= due_s:
                heapq.heappop(dues)
                n_lapsed += 1
                self._n -= 1
                self._share -= WEIGHT * self._share
                if not dues:
                    del self._of[who]
        if n_lapsed:
            self.on_lapsed(n_lapsed)
        return now_s
