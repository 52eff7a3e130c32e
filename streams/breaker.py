"""Keeps questions away from an endpoint that fails, and lets one of them try now and then whether it is well again."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

State = Literal["closed", "half_open", "open"]
"""Closed: all may ask. Open: nobody may. Half open: one question is trying the endpoint."""

_REMEMBERED: Final = 10
"""Ends that count: few, so that an endpoint that goes down after many good answers is soon left alone."""


@dataclass(kw_only=True)
class Breaker:
    """State of one endpoint. Every `admit` that gives True is followed by one `settle` or `abandon`.

    Attributes:
        failures_min: fewer failures never open it.
        window_s: what is older does not count.
        pause_s: how long it stays open before one may try; doubled with each try that fails.
        pause_max_s: the longest pause.
        now: seconds of a clock that never goes back.
        on_state: told of each change.
    """

    failures_min: int = 3
    window_s: float = 30.0
    pause_s: float = 5.0
    pause_max_s: float = 60.0
    now: Callable[[], float] = time.monotonic
    on_state: Callable[[State], None] = lambda _: None
    state: State = field(default="closed", init=False)
    _ended: deque[tuple[float, bool]] = field(init=False)
    _opened: float = field(default=0.0, init=False)
    _pause_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._ended = deque(maxlen=_REMEMBERED)
        self._pause_s = self.pause_s
        self.on_state(self.state)

    def admit(self) -> bool:
        """Say whether a question may be put to the endpoint now; where it was open, this question is the one that
        tries."""
        if self.state == "open" and self.now() - self._opened >= self._pause_s:
            self._to("half_open")
            return True
        return self.state == "closed"

    def settle(self, *, well: bool) -> None:
        """Take note of how a question went: it opens when half of the last ten failed, and not too few."""
        now = self.now()
        self._ended.append((now, well))
        if self.state == "half_open":
            self._pause_s = self.pause_s if well else min(2 * self._pause_s, self.pause_max_s)
            self._ended.clear()
            self._to("closed" if well else "open")
        elif self.state == "closed":
            recent = [ended_well for at, ended_well in self._ended if now - at <= self.window_s]
            failures = recent.count(False)
            if failures >= self.failures_min and 2 * failures >= len(recent):
                self._to("open")

    def abandon(self) -> None:
        """Take note that nobody waited for the end: the next question may try."""
        if self.state == "half_open":
            self._to("open", since=self._opened)

    def _to(self, state: State, *, since: float | None = None) -> None:
        self.state = state
        if state == "open":
            self._opened = self.now() if since is None else since
        self.on_state(state)
