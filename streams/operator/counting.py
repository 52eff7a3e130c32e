"""Counts what waits for a decision of people."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from streams.operator.letters import LetterStore


@dataclass(frozen=True, kw_only=True)
class CountOpen:
    """Tells how many dead letters are open.

    Attributes:
        letters: the register.
        stages: all whose dead letters are registered; those without any are told, too.
        counted: takes the stage and the number.
    """

    letters: LetterStore
    stages: Sequence[str]
    counted: Callable[[str, int], None]

    async def round(self) -> None:
        """Count once.

        Raises:
            Transient: the register is away.
        """
        found = await self.letters.n_open()
        for stage in self.stages:
            self.counted(stage, found.get(stage, 0))
