"""Keeps every index generation open that a question may name."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from streams.errors import Transient
from streams.ports import Catalogue, Generation
from streams.retrieve.handler import Retrieve

AGAIN_S: Final = 2.0
"""A nudge may be lost; so much later the catalogue is read all the same."""
_STARTING_S: Final = 0.1
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A generation that can be searched.

    Attributes:
        search: answers its questions.
        beside: what goes on while it is open; if one of them fails, it is closed.
    """

    search: Retrieve
    beside: Sequence[Coroutine[Any, Any, None]] = ()


@dataclass(frozen=True, kw_only=True)
class OpenGenerations:
    """Opens what the catalogue holds, and closes what it holds no more.

    Attributes:
        catalogue: says what there is.
        open: makes a generation searchable, which may take long, and gives it back once it is.
        woken: set by a nudge.
        gone: called with the chunkers of all that is open after one was closed for good.
        failed_s: pause before one that does not answer is tried again after it broke, s.
    """

    catalogue: Catalogue
    open: Callable[[Generation], AbstractAsyncContextManager[Opened]]
    woken: asyncio.Event
    gone: Callable[[frozenset[str]], None] = lambda chunkers: None
    failed_s: float = 30.0
    _open: dict[str, Retrieve] = field(default_factory=dict, init=False)
    _serving: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def search(self, generation: str) -> Retrieve:
        """Return what answers questions of a generation.

        Raises:
            Transient: it is not open (yet).
        """
        found = self._open.get(generation)
        if found is None:
            raise Transient(f"index generation {generation!r} is not open in this worker")
        return found

    async def ready(self) -> None:
        """Wait until the generation that answers can be searched."""
        await self._serving.wait()

    async def run(self) -> None:
        """Follow the catalogue until cancelled.

        Raises:
            ExceptionGroup: of what broke the generation that answers.
        """
        keeping: dict[Generation, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    wanted = {_unchanging(each): each for each in await self.catalogue.held()}
                    for gone in keeping.keys() - wanted.keys():
                        task = keeping.pop(gone)
                        task.cancel()
                        await asyncio.wait([task])
                        self.gone(frozenset(each.chunker for each in keeping))
                    for key in wanted.keys() - keeping.keys():
                        keeping[key] = tasks.create_task(self._keep(key))
                    if await self.catalogue.serving() in self._open:
                        self._serving.set()
                except Transient as error:
                    _log.warning("generations_unknown", why=str(error))
                await self._pause()

    async def _pause(self) -> None:
        # quick while something is about to open, for questions may wait for it
        with suppress(TimeoutError):
            async with asyncio.timeout(AGAIN_S if self._serving.is_set() else _STARTING_S):
                await self.woken.wait()
        self.woken.clear()

    async def _keep(self, generation: Generation) -> None:
        while True:
            try:
                return await self._while_open(generation)
            except Exception as error:
                # one that does not answer must not take down the one that does
                if await self.catalogue.serving() == generation.name:
                    raise
                _log.error("generation_not_open", generation=generation.name, why=repr(error))
                await asyncio.sleep(self.failed_s)

    async def _while_open(self, generation: Generation) -> None:
        async with self.open(generation) as opened:
            self._open[generation.name] = opened.search
            _log.info("generation_open", generation=generation.name)
            try:
                async with asyncio.TaskGroup() as beside:
                    for each in opened.beside:
                        beside.create_task(each)
            finally:
                del self._open[generation.name]


def _unchanging(generation: Generation) -> Generation:
    """Leave out what may change while it is open."""
    return Generation(
        name=generation.name,
        chunker=generation.chunker,
        embedder=generation.embedder,
        dim=generation.dim,
        lexical=generation.lexical,
        vectors=generation.vectors,
    )
