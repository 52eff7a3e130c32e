"""What the handler tells about claims and writings, for metrics."""

from typing import Literal, Protocol

from streams.generate.draft import Stop

Claiming = Literal["first", "again", "taken_over", "refused"]
"""How a claim went: the first attempt, a further one of the same process, one of another process, or none."""


class Observer(Protocol):
    """Called in the event loop, so it must be quick and never raise."""

    def claimed(self, how: Claiming) -> None:
        """A question was claimed, or could not be."""
        ...

    def told(self) -> None:
        """A batch of text was handed over for publishing."""
        ...

    def stopped(self, why: Stop, asked_s: float | None = None) -> None:
        """A writing ended before its time; `asked_s`: seconds since its cancelling was asked for, where known."""
        ...
