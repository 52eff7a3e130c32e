"""Work of many callers done together in one thread, a round at a time: how encoders fill their batches."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

ROUND: Final = 64
"""Texts that are sorted by length together: enough to fill batches evenly, few enough that nobody waits long."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True)
class _Item(Generic[T, R]):
    given: T
    done: "asyncio.Future[R]"


@dataclass(kw_only=True)
class Rounds(Generic[T, R]):
    """Callers at the same time share rounds; whoever comes while one runs is in the next.

    Attributes:
        work: does a round of at most `size` items, in the thread; one result for each, in order.
        thread: of one worker, shared with others, whose owner shuts it down; None: one of its own.
        size: of a round.
    """

    work: Callable[[Sequence[T]], Sequence[R]]
    thread: Executor | None = None
    size: int = ROUND
    _own: ThreadPoolExecutor | None = field(default=None, init=False)
    _waiting: list[_Item[T, R]] = field(default_factory=list, init=False)
    _running: "asyncio.Task[None] | None" = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.thread is None:
            self._own = ThreadPoolExecutor(1, thread_name_prefix="encoder")

    async def do(self, items: Sequence[T]) -> list[R]:
        """Have the items worked on; the results are in their order.

        Others get their turn between two rounds of a long list.

        Raises:
            Exception: what `work` raised in the round of one of them.
        """
        results: list[R] = []
        for start in range(0, len(items), self.size):
            results += await self._together(items[start : start + self.size])
        return results

    async def close(self) -> None:
        """End; whoever waits gets CancelledError. A thread of its own is waited for."""
        if self._running is not None:
            self._running.cancel()
        for item in self._waiting:
            item.done.cancel()
        if self._own is not None:
            await asyncio.to_thread(self._own.shutdown)

    async def _together(self, given: Sequence[T]) -> list[R]:
        loop = asyncio.get_running_loop()
        items = [_Item[T, R](each, loop.create_future()) for each in given]
        self._waiting += items
        if self._running is None or self._running.done():
            self._running = loop.create_task(self._work())
        return list(await asyncio.gather(*(item.done for item in items)))

    async def _work(self) -> None:
        """Do what waits, a round at a time, until nothing waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            items = [item for item in self._waiting[: self.size] if not item.done.done()]
            del self._waiting[: self.size]
            try:
                given = [item.given for item in items]
                results = await loop.run_in_executor(self.thread or self._own, self.work, given)
            except asyncio.CancelledError:
                for item in items:
                    item.done.cancel()
                raise
            except Exception as error:
                for item in items:
                    if not item.done.done():
                        item.done.set_exception(error)
                continue
            for item, result in zip(items, results, strict=True):
                if not item.done.done():
                    item.done.set_result(result)
