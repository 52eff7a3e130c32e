"""What the runtime tells about its stages, for metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The state of one stage at one moment.

    Attributes:
        group: the consumer group that it is; a stage has one per generation.
        lag: records between the committable position and the end, per topic and partition held.
        in_flight: records handed out and not finished.
        in_flight_bytes: their keys and values.
        oldest_unfinished_s: age of the oldest of them; 0 when there is none.
        gaps: offsets skipped by compaction or retention since the last rebalance.
        repeats: records seen again since the last rebalance.
    """

    group: str
    lag: Mapping[tuple[str, int], int]
    in_flight: int
    in_flight_bytes: int
    oldest_unfinished_s: float
    gaps: int
    repeats: int


class Observer(Protocol):
    """Hears of everything that the runtime does; called in the event loop, so it must be quick and never raise."""

    def processed(self, stage: str, seconds: float) -> None:
        """A record is done, its outputs acknowledged; `seconds` from its first attempt on."""
        ...

    def retried(self, stage: str) -> None:
        """An attempt failed for a passing reason; another follows."""
        ...

    def dead_lettered(self, stage: str, reason: str) -> None:
        """A record was given up and stands in the dead-letter topic."""
        ...

    def sampled(self, stage: str, sample: Sample) -> None:
        """The state of the stage, about once a second."""
        ...

    def went(self, part: str) -> None:
        """A part is away."""
        ...

    def came_back(self, part: str, away_s: float) -> None:
        """It is back, after that many seconds."""
        ...


class Silent:
    """An observer that ignores everything."""

    def processed(self, stage: str, seconds: float) -> None:
        """Ignore."""

    def retried(self, stage: str) -> None:
        """Ignore."""

    def dead_lettered(self, stage: str, reason: str) -> None:
        """Ignore."""

    def sampled(self, stage: str, sample: Sample) -> None:
        """Ignore."""

    def went(self, part: str) -> None:
        """Ignore."""

    def came_back(self, part: str, away_s: float) -> None:
        """Ignore."""
