"""Counts what waits for a decision of people."""

from collections.abc import Callable
from dataclasses import dataclass, field

from streams.operator.letters import LetterStore


@dataclass(frozen=True, kw_only=True)
class CountOpen:
    """Tells how many dead letters are open.

    Attributes:
        letters: the register.
        counted: takes the stage, the reason and the number; 0 once there are none left.
    """

    letters: LetterStore
    counted: Callable[[str, str, int], None]
    _told: set[tuple[str, str]] = field(default_factory=set, init=False)

    async def round(self) -> None:
        """Count once.

        Raises:
            Transient: the register is away.
        """
        found = await self.letters.n_open()
        self._told.update(found)
        for stage, reason in self._told:
            self.counted(stage, reason, found.get((stage, reason), 0))
