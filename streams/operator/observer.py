"""What is told of differences between log and tables."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from streams.operator.overdue import Coverage

Reissued = Literal["repair", "overdue"]
"""Why a document was done again."""


class DriftObserver(Protocol):
    """Is told what is found and done. Never raises."""

    def found(self, kinds: Mapping[str, int]) -> None:
        """A verification found differences; how many of each kind."""
        ...

    def reissued(self, why: Reissued, n: int) -> None:
        """So many documents are done again."""
        ...

    def mended(self, n: int) -> None:
        """So many versions that were overdue are served."""
        ...

    def covered(self, generation: str, coverage: "Coverage") -> None:
        """How far a generation has come."""
        ...

    def forgotten(self, generation: str) -> None:
        """A generation is followed no more; how far it came says nothing now."""
        ...
