"""Duties: work in rounds."""

import asyncio

from streams.errors import Transient
from streams.operator.duty import Duty

HOUR_S = 3_600.0


class Rounds:
    """Counts rounds, the first of which fail."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.n = 0
        self.done = asyncio.Event()

    async def __call__(self) -> None:
        self.n += 1
        self.done.set()
        if self.failures:
            raise self.failures.pop(0)

    async def next(self) -> None:
        async with asyncio.timeout(5):
            await self.done.wait()
        self.done.clear()


async def test_a_nudge_begins_a_round() -> None:
    rounds, woken = Rounds(), asyncio.Event()
    running = asyncio.create_task(Duty(name="d", round=rounds, every_s=HOUR_S, woken=woken).run())
    woken.set()
    await rounds.next()
    woken.set()
    await rounds.next()
    running.cancel()

    assert rounds.n == 2


async def test_without_a_nudge_a_round_begins_in_time() -> None:
    rounds = Rounds()
    running = asyncio.create_task(Duty(name="d", round=rounds, every_s=0.01, woken=asyncio.Event()).run())
    await rounds.next()
    await rounds.next()
    running.cancel()


async def test_a_round_that_fails_does_not_end_them() -> None:
    rounds = Rounds(Transient("away"), Transient("away"), RuntimeError("a bug"))
    running = asyncio.create_task(Duty(name="d", round=rounds, every_s=0.01, woken=asyncio.Event()).run())
    for _ in range(5):
        await rounds.next()
    assert not running.done()
    running.cancel()
