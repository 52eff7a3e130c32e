"""Notes of who holds a partition, by which the next holder knows that the one before died, and of what.

A holder takes its note back when it leaves in good order, so whoever takes a partition and finds the note of another
knows that this one died. A record that ran alone then is a suspect. Where none did, those that may have been running
are due to run alone, one after the other.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

REMEMBERED_S = 600
_DEATHS_WHEN_ALONE = 2
"""Who dies alone for the first time was in the crowd when the worker died before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A partition as one group reads it. `topic_id` is Kafka's id of the topic, which a re-created one has not."""

    group: str
    topic_id: str
    partition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What is known of a partition.

    Attributes:
        holder: who holds it; None: the last one left in good order.
        alone: offset of the record that runs alone.
        suspect: offset of a record that ran alone when its holder died, and has not run to an end since.
        deaths: of workers, counted for the suspect.
        victim: the last holder that died while a record of this partition ran alone.
        position: offset that was committed when a holder had last died of an unknown record.
        crashes: how often in a row holders died so at this position.
        due: the records from the position on have not run alone since.
        killer: tells which record was given up here not long ago, for it had killed its workers.
    """

    holder: str | None = None
    alone: int | None = None
    suspect: int | None = None
    deaths: int = 0
    victim: str | None = None
    position: int = 0
    crashes: int = 0
    due: bool = False
    killer: bytes | None = None

    def taken(self, holder: str, position: int, *, explained: bool) -> "Note":
        """Return the note as it is once `holder` has taken the partition.

        Args:
            holder: who takes it.
            position: committed offset; 0 where none is.
            explained: the holder before died while a record of another partition ran alone.
        """
        if self.holder in (None, holder):
            return replace(self, holder=holder, alone=None)
        if self.alone is not None:
            deaths = self.deaths + 1 if self.suspect == self.alone else _DEATHS_WHEN_ALONE
            suspect, victim = self.alone, self.holder
            return replace(
                self, holder=holder, alone=None, suspect=suspect, deaths=deaths, victim=victim, crashes=0, due=False
            )
        if explained:
            return replace(self, holder=holder, crashes=0, due=False)
        crashes = self.crashes + 1 if self.crashes and position == self.position else 1
        return replace(self, holder=holder, position=position, crashes=crashes, due=True)

    def cleared(self, offset: int, *, well: bool) -> "Note":
        """Return the note as it is once the record at `offset` runs alone no more; `well`: its attempt came to an
        end."""
        if well and self.suspect == offset:
            return replace(self, alone=None, suspect=None, deaths=0)
        return replace(self, alone=None)

    def condemned(self, killer: bytes) -> "Note":
        """Return the note as it is once the record that runs alone was given up."""
        return replace(self, alone=None, suspect=None, deaths=0, killer=killer)


class Holders(Protocol):
    """The notes, as one worker process sees them. Every change is a compare-and-set by the holder's name.

    Methods raise `Transient` when the store is away.
    """

    async def take(self, positions: Mapping[Place, int]) -> Mapping[Place, Note]:
        """Take partitions, each with its committed offset; return their notes, as `Note.taken` says."""
        ...

    async def mark(self, place: Place, offset: int) -> bool:
        """Note that the record runs alone from now on; False when the partition is another's."""
        ...

    async def clear(self, place: Place, offset: int, *, well: bool) -> None:
        """Note that the record runs alone no more, as `Note.cleared` says."""
        ...

    async def condemn(self, place: Place, offset: int, killer: bytes) -> None:
        """Note that the record was given up, and what to know it by, for `REMEMBERED_S`: it may stand there again."""
        ...

    async def settle(self, places: Iterable[Place], *, idle: bool) -> None:
        """Note that the records that were due have run alone; `idle`: there were none, so no crash counts."""
        ...

    async def leave(self, places: Iterable[Place]) -> None:
        """Take the notes back, in good order; what is due or suspect stays so."""
        ...
