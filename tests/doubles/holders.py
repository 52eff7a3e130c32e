"""Notes of who holds a partition, in memory."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from streams.errors import Transient
from streams.runtime.holders import Note, Place


@dataclass(kw_only=True)
class MemoryHolders:
    """`Holders` in memory; several processes share `notes`. While `away` is set, nothing works."""

    holder: str
    notes: dict[Place, Note] = field(default_factory=dict)
    away: bool = False

    async def take(self, positions: Mapping[Place, int]) -> Mapping[Place, Note]:
        self._check()
        found = {place: self.notes.get(place, Note()) for place in positions}
        explained = {note.holder for note in self.notes.values() if note.alone is not None}
        explained |= {note.victim for note in self.notes.values()}
        taken = {
            place: note.taken(self.holder, positions[place], explained=note.holder in explained)
            for place, note in found.items()
        }
        self.notes.update(taken)
        return taken

    async def mark(self, place: Place, offset: int) -> bool:
        self._check()
        if not self._holds(place):
            return False
        self.notes[place] = replace(self.notes[place], alone=offset)
        return True

    async def clear(self, place: Place, offset: int, *, well: bool) -> None:
        self._check()
        if self._holds(place) and self.notes[place].alone == offset:
            self.notes[place] = self.notes[place].cleared(offset, well=well)

    async def condemn(self, place: Place, offset: int, killer: bytes) -> None:
        self._check()
        if self._holds(place) and self.notes[place].alone == offset:
            self.notes[place] = self.notes[place].condemned(killer)

    def forget(self, place: Place) -> None:
        """Let so much time pass that nobody remembers the killer."""
        self.notes[place] = replace(self.notes[place], killer=None)

    async def settle(self, places: Iterable[Place], *, idle: bool) -> None:
        self._check()
        for place in filter(self._holds, places):
            note = self.notes[place]
            self.notes[place] = replace(note, due=False, crashes=0 if idle else note.crashes)

    async def leave(self, places: Iterable[Place]) -> None:
        self._check()
        for place in filter(self._holds, places):
            self.notes[place] = replace(self.notes[place], holder=None, alone=None)

    def _holds(self, place: Place) -> bool:
        return place in self.notes and self.notes[place].holder == self.holder

    def _check(self) -> None:
        if self.away:
            raise Transient("away", part="postgres")
