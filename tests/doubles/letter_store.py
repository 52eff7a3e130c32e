"""The register of dead letters in memory."""

from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from streams.operator.letters import Letter, Place, StoredRecord, Task


@dataclass(kw_only=True)
class Row:
    """A registered dead letter."""

    letter: Letter
    state: str = "open"
    why: str | None = None


@dataclass(kw_only=True)
class MemoryLetters:
    """`LetterStore` in memory; `ask` is what the gateway does."""

    rows: dict[Place, Row] = field(default_factory=dict)
    locked: set[Place] = field(default_factory=set)

    async def register(self, letter: Letter) -> None:
        row = self.rows.get(letter.place)
        if row is None or row.letter.failed_ms < letter.failed_ms:
            self.rows[letter.place] = Row(letter=letter)

    async def n_open(self) -> Mapping[tuple[str, str], int]:
        return Counter((place.stage, row.letter.why.reason) for place, row in self.rows.items() if row.state == "open")

    def ask(self, place: Place) -> None:
        row = self.rows.pop(place)
        row.state = "redrive"
        self.rows[place] = row

    @asynccontextmanager
    async def next_to_redrive(self) -> AsyncIterator[Task | None]:
        waiting = [place for place, row in self.rows.items() if row.state == "redrive" and place not in self.locked]
        if not waiting:
            yield None
            return
        place = waiting[0]
        task = Task(letter=self.rows[place].letter)
        self.locked.add(place)
        try:
            yield task
        finally:
            self.locked.discard(place)
        self.rows[place].state, self.rows[place].why = task.state, task.why


@dataclass(kw_only=True)
class MemoryRecords:
    """`LetterRecords` in memory."""

    held: dict[Place, StoredRecord] = field(default_factory=dict)

    async def read(self, place: Place) -> StoredRecord | None:
        return self.held.get(place)
