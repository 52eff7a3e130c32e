"""Dead letters as the operator stage knows them, and what it needs to register and to redrive them."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from schemas.dead_letters import Why

DOCUMENT_STAGES: Final = frozenset({"chunk", "embed", "index", "index_opensearch"})
"""What they gave up is redriven by a re-issue of the version."""

ENDED_STAGES: Final = frozenset({"retrieve", "generate"})
"""What they gave up has ended with an error, and is not redriven."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a dead letter stands: in the dead-letter topic of `stage`."""

    stage: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A dead letter as it is registered; the record stays in its topic.

    Attributes:
        place: where it stands.
        why: as its headers say.
        failed_ms: when it was given up.
        tenant: of its document or question; None: the record does not tell.
        document: id, of a document's record.
        version: of that document; None: none was given yet.
        query: id, of a question's record.
        key: of the record.
        n_bytes: of its value.
    """

    place: Place
    why: Why
    failed_ms: int
    tenant: str | None
    document: str | None
    version: int | None
    query: str | None
    key: bytes | None
    n_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRecord:
    """The record of a dead letter, byte for byte. `headers` are in their order; a name may come twice."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


State = Literal["open", "redriven"]


@dataclass(slots=True, kw_only=True)
class Task:
    """A dead letter that shall be redriven, locked until the block ends; `become` says how it came out.

    Attributes:
        letter: which.
        state: afterwards; `redrive`, as it is, leaves it for the next round.
        why: it is `open` again.
    """

    letter: Letter
    state: Literal["redrive", "open", "redriven"] = "redrive"
    why: str | None = None

    def become(self, state: State, why: str | None = None) -> None:
        """Say what the letter is when the block ends."""
        self.state, self.why = state, why


class LetterStore(Protocol):
    """The register of dead letters. Methods raise `Transient` when it is away."""

    async def register(self, letter: Letter) -> None:
        """Note a dead letter as open; one that is registered already stays as it is. Idempotent.

        A later one at the same place, of a topic that was created anew, replaces it.
        """
        ...

    async def n_open(self) -> Mapping[tuple[str, str], int]:
        """Count the open dead letters by stage and reason; what has none may be absent."""
        ...

    def next_to_redrive(self) -> AbstractAsyncContextManager[Task | None]:
        """Lock the dead letter that has waited longest to be redriven, for the time of the block; None: there is none.

        Others pass over it meanwhile. What the block says it became holds when the block ends; an exception changes
        nothing.
        """
        ...


class LetterRecords(Protocol):
    """The dead-letter topics."""

    async def read(self, place: Place) -> StoredRecord | None:
        """Return the record at a place; None: it is not kept any more.

        Raises:
            Transient: Kafka is away.
        """
        ...
