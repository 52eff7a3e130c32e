"""The gate of a process: through it attempts go together, or one alone."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from streams.runtime.lanes import Slots

Leave = Callable[[], Awaitable[None]]
"""Ends a stay before its block ends; may be called more than once."""


class Gate:
    """Lets the attempts of a process run together, or one of them alone. Who wants to be alone goes first."""

    def __init__(self) -> None:
        self._n_together = 0
        self._alone: deque[asyncio.Event] = deque()
        self._open = asyncio.Event()
        self._open.set()

    @asynccontextmanager
    async def together(self, slots: Slots) -> AsyncIterator[Leave]:
        """Hold a slot while nobody runs alone.

        Raises:
            Dropped: the record is not ours any more.
        """
        while True:
            if not self._open.is_set():
                # without a slot, which is for those that run
                await slots.rest_until(self._open)
            async with slots.taken():
                if not self._open.is_set():
                    continue
                stays = True

                async def leave() -> None:
                    nonlocal stays
                    if stays:
                        stays = False
                        self._n_together -= 1
                        self._call_next()

                self._n_together += 1
                try:
                    yield leave
                finally:
                    await leave()
                return

    @asynccontextmanager
    async def alone(self, slots: Slots, patience_s: float | None) -> AsyncIterator[Leave | None]:
        """Be alone, beside those whose record is claimed; needs no slot, as nothing else runs.

        Gives None when others ran on for `patience_s`, seconds.

        Raises:
            Dropped: the record is not ours any more.
        """
        called = asyncio.Event()

        async def leave() -> None:
            if called in self._alone:
                self._alone.remove(called)
                self._call_next()

        self._alone.append(called)
        self._open.clear()
        self._call_next()
        try:
            try:
                async with asyncio.timeout(patience_s):
                    await slots.rest_until(called)
            except TimeoutError:
                await leave()
                yield None
                return
            with slots.beside():
                yield leave
        finally:
            await leave()

    def _call_next(self) -> None:
        if not self._alone:
            self._open.set()
        elif not self._n_together:
            self._alone[0].set()
