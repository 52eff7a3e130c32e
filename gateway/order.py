"""Leaves out of a stream of replies what comes twice or from an attempt that was taken over."""

from dataclasses import dataclass
from typing import Final, Literal

from schemas.events import Reply

TERMINAL: Final = frozenset({"done", "error", "cancelled"})
"""Types of replies that end a question."""

_ANYWHERE: Final = frozenset({"error", "cancelled", "score"})
"""Only the winner of the row's compare-and-set sends an error or a cancel; scores have no place in the order."""


@dataclass(kw_only=True)
class ReplyOrder:
    """Passes `(attempt, seq + 1)` alone, and says when a later attempt begins the answer anew."""

    attempt: int = 0
    next_seq: int = 0

    @classmethod
    def after(cls, reply: Reply) -> "ReplyOrder":
        """Go on after a reply that was passed before."""
        return cls(attempt=reply.attempt, next_seq=reply.seq + 1)

    def admit(self, reply: Reply) -> Literal["pass", "reset", "drop"]:
        """Judge the next reply.

        Returns:
            "pass"; "reset": pass, and what was passed of the attempt before is void; "drop".
        """
        if reply.type in _ANYWHERE:
            return "pass"
        if reply.attempt > self.attempt and reply.seq == 0:
            begun_before = self.attempt > 0
            self.attempt, self.next_seq = reply.attempt, 1
            return "reset" if begun_before else "pass"
        if (reply.attempt, reply.seq) != (self.attempt, self.next_seq):
            return "drop"
        self.next_seq += 1
        return "pass"

    def is_missing_some(self, reply: Reply) -> bool:
        """Whether replies that stand before this one were never seen."""
        return (reply.attempt, reply.seq) > (self.attempt, self.next_seq)
