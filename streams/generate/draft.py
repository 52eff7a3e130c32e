"""The text of one attempt while it is being written: the answerer writes, the handler passes it on in batches."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from types import TracebackType
from typing import Any, Literal, Self, cast

from schemas.events import Answer

Stop = Literal["cancelled", "lost", "deadline"]
"""Why a writing is stopped: its reader wants no more, another attempt owns the question, or no time is left."""


class Draft:
    """Use it as an async context manager: the answerer begins on entry, and has stopped when the block is left.

    Attributes:
        told: the text handed out so far.
        answer: the whole answer, once the answerer has given it.
        stopped: why the writing was stopped; None: it was not.
    """

    def __init__(self, pieces: AsyncIterator[str | Answer], *, pause_s: float) -> None:
        """Args:
        pieces: what an `Answerer` yields.
        pause_s: shortest time between two batches, seconds; the first and the last one come at once.
        """
        self.told = ""
        self.answer: Answer | None = None
        self.stopped: Stop | None = None
        self._pieces = pieces
        self._pause_s = pause_s
        self._batch: list[str] = []
        self._news = asyncio.Event()
        self._over = asyncio.Event()
        self._due = 0.0
        self._writing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        if self.stopped is None:
            self._writing = asyncio.create_task(self._write())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.gather(self._writing, return_exceptions=True)

    def stop(self, why: Stop) -> None:
        """Stop the answerer at once, and hand out no more; the first reason holds."""
        self.stopped = self.stopped or why
        if self._writing is not None:
            self._writing.cancel()
        self._end()

    async def next(self) -> str | None:
        """Return what has come since the last batch, joined; None when no more comes.

        Raises:
            StreamError: as the answerer raised it.
        """
        await self._news.wait()
        pause_s = self._due - asyncio.get_running_loop().time()
        if pause_s > 0 and not self._over.is_set():
            try:
                async with asyncio.timeout(pause_s):
                    await self._over.wait()
            except TimeoutError:
                pass
        if self.stopped is not None:
            return None
        batch = "".join(self._batch)
        self._batch.clear()
        if batch:
            if not self._over.is_set():
                self._news.clear()
            self._due = asyncio.get_running_loop().time() + self._pause_s
            self.told += batch
            return batch
        if self._writing is not None:
            self._writing.result()
        return None

    async def _write(self) -> None:
        try:
            # answerers are async generators, so they can be closed; the protocol does not say so
            async with aclosing(cast(Any, self._pieces)):
                async for piece in self._pieces:
                    if isinstance(piece, Answer):
                        self.answer = piece
                    elif piece:
                        self._batch.append(piece)
                        self._news.set()
        finally:
            # the task is done only a moment later
            asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        self._over.set()
        self._news.set()
