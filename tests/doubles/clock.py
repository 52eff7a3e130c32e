"""A clock that stands still."""

from dataclasses import dataclass


@dataclass(kw_only=True)
class FrozenClock:
    """`Clock` that says what a test has set."""

    ms: int = 1_000

    def now_ms(self) -> int:
        return self.ms
