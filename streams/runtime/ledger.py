"""The offset ledger of one partition: which records were handed out and are not finished, and so what may be committed.

It works by order, not by density: gaps in offsets are normal (compaction, retention) and are only counted.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Ledger:
    """Offsets handed out and not finished, in ascending order.

    Attributes:
        next: one more than the highest offset handed out; None before the first when it is not known where to begin.
        gaps: offsets that never came, in all.
        repeats: records that came again, or out of order.
    """

    next: int | None = None
    gaps: int = 0
    repeats: int = 0
    _unfinished: dict[int, float] = field(default_factory=dict)
    _committable: int | None = None

    def hand_out(self, offset: int, now: float) -> None:
        """Take note that a record goes to a handler.

        Args:
            offset: of the record.
            now: monotonic time, seconds; tells the age of what is unfinished.
        """
        if self.next is None or offset >= self.next:
            self.gaps += offset - self.next if self.next is not None else 0
            self.next = offset + 1
            self._unfinished[offset] = now
            return
        self.repeats += 1
        # below the position all is finished, and a position never falls
        if offset not in self._unfinished and offset >= (self.position() or 0):
            self._unfinished = dict(sorted((self._unfinished | {offset: now}).items()))

    def finish(self, offset: int) -> bool:
        """Take note that a record is finished; False when it is not handed out, or was finished before."""
        return self._unfinished.pop(offset, None) is not None

    def position(self) -> int | None:
        """Return the offset to commit: that of the lowest unfinished record, or the next to come; it never falls.

        None while nothing was handed out and the beginning is not known.
        """
        lowest = next(iter(self._unfinished), self.next)
        if lowest is not None:
            self._committable = max(lowest, self._committable or 0)
        return self._committable

    def oldest(self) -> tuple[int, float] | None:
        """Return offset of the lowest unfinished record and when it was handed out; None when all is finished."""
        return next(iter(self._unfinished.items()), None)

    @property
    def n_unfinished(self) -> int:
        """Number of records handed out and not finished."""
        return len(self._unfinished)
