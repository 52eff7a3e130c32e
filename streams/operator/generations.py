"""Carries out what is wanted of index generations: makes them, moves the alias, and drops what they owned."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Protocol

import structlog

from schemas.ids import DocumentKey
from streams.errors import Fatal, Transient, Unprocessable
from streams.ports import Generation

NAMED: Final = 5
"""Documents that a refusal names."""
_log = structlog.get_logger(__name__)


class InUse(Exception):
    """What is to be dropped is still read; the text says by whom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """That another generation shall answer.

    Attributes:
        id: of the request.
        generation: that shall answer.
        previous: that answered when it was asked for.
        forced: documents that it does not serve yet are no hindrance.
        state: asked, or moved: the alias names it, and the documents' statuses are still to follow.
    """

    id: str
    generation: str
    previous: str
    forced: bool
    state: Literal["asked", "moved"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A document that a generation does not serve in its latest version.

    Attributes:
        key: of the document.
        version: its latest one.
        given_up: by which stage and why, as the last dead letter of this version says; None: there is none.
    """

    key: DocumentKey
    version: int
    given_up: str | None


class Passage(Protocol):
    """Follows the stages that fill a generation."""

    async def passed_ms(self) -> int | None:
        """Return a time, ms since 1970: what was submitted before it waits for no stage. None: not known yet.

        Raises:
            Transient: Kafka is away.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """Who searches a generation.

    Attributes:
        workers: retrieval workers that live.
        ready: those of them that can search it.
    """

    workers: Collection[str]
    ready: Collection[str]


class GenerationRows(Protocol):
    """Index generations and switches as they are wanted. Methods raise `Transient` when the store is away."""

    async def wanted(self, state: Literal["asked", "dropping"]) -> Sequence[Generation]:
        """Return the generations in this state, the oldest first."""
        ...

    async def made(self, name: str, dim: int) -> None:
        """Make the table of one that was asked for, and let it be followed. Idempotent."""
        ...

    async def failed(self, name: str, why: str) -> None:
        """It cannot be made."""
        ...

    async def waits(self, name: str, why: str) -> None:
        """Say what the making or the dropping of a generation waits for."""
        ...

    async def open_questions(self, name: str) -> int:
        """Return how many accepted questions name it and have not ended."""
        ...

    async def chunker_needed(self, chunker: str, but_for: str) -> bool:
        """Tell whether another generation reads the chunks of a chunker."""
        ...

    async def dropped(self, name: str) -> None:
        """Drop its table, and forget all that it served. Idempotent."""
        ...

    async def switch(self) -> Switch | None:
        """Return the switch that is under way."""
        ...

    async def readers(self, name: str) -> Readers:
        """Return who searches a generation."""
        ...

    async def missing(self, switch: Switch) -> int:
        """Return how many documents that were accepted before the switch was asked for are not covered.

        Those that failed in the generation that answers are left out, as are later ones: under steady traffic some are
        always on their way.
        """
        ...

    async def which_missing(self, switch: Switch, limit: int) -> Sequence[Missing]:
        """Return the first so many of these, by tenant and id."""
        ...

    async def move(self, switch: Switch) -> bool:
        """Let the alias name the switch's generation, unless it does not name `previous` any more; that is refused."""
        ...

    async def settle(self, switch: Switch) -> None:
        """Let the statuses of documents speak of the generation that answers now, and finish the switch."""
        ...

    async def switch_waits(self, switch: Switch, why: str) -> None:
        """Say what a switch waits for."""
        ...

    async def refuse(self, switch: Switch, why: str) -> None:
        """Finish a switch that cannot be."""
        ...


class Belongings(Protocol):
    """What generations own in one store: topics and consumer groups, or an index. Methods raise `Transient` when it is
    away."""

    async def make(self, generation: Generation) -> None:
        """Make what it reads and writes. Idempotent.

        Raises:
            Fatal: there is no such store.
        """
        ...

    async def drop(self, generation: Generation, *, chunks_too: bool) -> None:
        """Drop what is its own, and its chunks as well if nobody needs them. Idempotent.

        Raises:
            InUse: a worker still reads for it.
            Fatal: there is no such store.
        """
        ...


class NoOpensearch:
    """`Belongings` where there is no OpenSearch."""

    async def make(self, generation: Generation) -> None:
        """See `Belongings.make`."""
        if generation.in_opensearch:
            raise Fatal("HEADRACE_OPENSEARCH_URL is empty; set it for the worker with the operator stage")

    async def drop(self, generation: Generation, *, chunks_too: bool) -> None:
        """See `Belongings.drop`."""
        await self.make(generation)


@dataclass(frozen=True, kw_only=True)
class CarryOut:
    """Does what is wanted.

    Attributes:
        rows: what is wanted.
        belongings: what it owns in each store; those that have readers first, so that nobody writes to a later one any
            more when it is dropped there.
        dimension: returns how long the vectors of an embedder are.
        check_chunker: raises `Fatal` for a chunker that there is not.
        moved: called once the alias has moved.
        follow: begins to follow the stages that fill a generation.
    """

    rows: GenerationRows
    belongings: Sequence[Belongings]
    dimension: Callable[[str], Awaitable[int]]
    check_chunker: Callable[[str], object]
    moved: Callable[[], Awaitable[None]]
    follow: Callable[[str], Awaitable[Passage]]
    _followed: dict[str, Passage] = field(default_factory=dict, init=False)

    async def round(self) -> None:
        """Do all that can be done now; a switch first, for readers may wait for a rollback.

        Raises:
            Transient: Kafka or Postgres is away.
        """
        if (switch := await self.rows.switch()) is not None:
            await self._switch(switch)
        for generation in await self.rows.wanted("dropping"):
            await self._drop(generation)
        for generation in await self.rows.wanted("asked"):
            await self._make(generation)

    async def _make(self, generation: Generation) -> None:
        try:
            self.check_chunker(generation.chunker)
            dim = await self.dimension(generation.embedder)
            for store in self.belongings:
                await store.make(replace(generation, dim=dim))
            await self.rows.made(generation.name, dim)
        except (Fatal, Unprocessable, ValueError) as error:
            await self.rows.failed(generation.name, str(error))
            _log.error("generation_failed", generation=generation.name, why=str(error))
        except Transient as error:
            # an embedder that is away is no reason to leave the next one
            await self.rows.waits(generation.name, str(error))
        else:
            _log.info("generation_made", generation=generation.name, dim=dim)

    async def _switch(self, switch: Switch) -> None:
        if switch.state == "asked":
            waiting = await self._waits_for(switch)
            if waiting is not None:
                await self.rows.switch_waits(switch, waiting)
                if (why := await self._never(switch)) is not None:
                    await self.rows.refuse(switch, why)
                    _log.warning("switch_refused", generation=switch.generation, why=why)
                return
            if not await self.rows.move(switch):
                await self.rows.refuse(switch, f"{switch.previous!r} does not answer any more")
                return
            _log.info("alias_moved", generation=switch.generation, previous=switch.previous)
            await self.moved()
        await self.rows.settle(switch)

    async def _waits_for(self, switch: Switch) -> str | None:
        readers = await self.rows.readers(switch.generation)
        if not readers.ready:
            return "no retrieval worker can search it yet"
        if behind := sorted(set(readers.workers) - set(readers.ready)):
            return f"retrieval workers cannot search it yet: {', '.join(behind)}"
        if not switch.forced and (n_missing := await self.rows.missing(switch)):
            return f"{n_missing} documents are not indexed yet"
        return None

    async def _never(self, switch: Switch) -> str | None:
        """Say why a switch would wait for good: documents are missing that wait for no stage any more."""
        if switch.forced or not await self.rows.missing(switch):
            return None
        if switch.id not in self._followed:
            # one that began after the switch was asked for has passed all that the switch waits for
            self._followed.clear()
            self._followed[switch.id] = await self.follow(switch.generation)
        if await self._followed[switch.id].passed_ms() is None or not (n := await self.rows.missing(switch)):
            return None
        named = [_named(each) for each in await self.rows.which_missing(switch, NAMED)]
        more = f" and {n - len(named)} more" if n > len(named) else ""
        return (
            f"{n} documents wait for no stage of {switch.generation!r}, which does not serve their latest version: "
            f"{'; '.join(named)}{more}. Mend what is wrong and have them done again (headrace dlq redrive, or headrace "
            "verify --repair), or force the switch: their latest version is not found then"
        )

    async def _drop(self, generation: Generation) -> None:
        readers = (await self.rows.readers(generation.name)).ready
        if readers:
            await self.rows.waits(generation.name, f"retrieval workers have it open: {', '.join(sorted(readers))}")
            return
        if n_open := await self.rows.open_questions(generation.name):
            await self.rows.waits(generation.name, f"{n_open} open questions name it")
            return
        chunks_too = not await self.rows.chunker_needed(generation.chunker, generation.name)
        try:
            for store in self.belongings:
                await store.drop(generation, chunks_too=chunks_too)
        except (InUse, Fatal, Transient) as error:
            # what waits must not hold up the next one
            await self.rows.waits(generation.name, str(error))
            return
        await self.rows.dropped(generation.name)
        _log.info("generation_dropped", generation=generation.name, chunks_too=chunks_too)


def _named(missing: Missing) -> str:
    why = f"given up by {missing.given_up}" if missing.given_up else "lost"
    return f"{missing.key.encode().decode()!r} version {missing.version}, {why}"
