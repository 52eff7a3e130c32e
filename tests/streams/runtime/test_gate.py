"""The gate: attempts go together, or one alone."""

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from streams.runtime.gate import Gate, Leave
from streams.runtime.lanes import Dropped, Slots
from tests.streams.runtime.waiting import until


class Running:
    """Attempts that end when the test says so."""

    def __init__(self, n_slots: int = 4) -> None:
        self.gate, self.slots = Gate(), Slots(n_slots)
        self.here: set[str] = set()
        self._go: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def together(self, name: str) -> None:
        self._start(name, self.gate.together(self.slots))

    def alone(self, name: str, patience_s: float | None = None) -> None:
        self._start(name, self.gate.alone(self.slots, patience_s))

    async def end(self, *names: str) -> None:
        for name in names:
            self._go[name].set()
            await asyncio.wait_for(self._tasks[name], 5)

    async def seen(self) -> set[str]:
        await asyncio.sleep(0.02)
        return self.here

    def _start(self, name: str, stay: AbstractAsyncContextManager[Leave | None]) -> None:
        self._go[name] = asyncio.Event()

        async def run() -> None:
            async with stay as leave:
                self.here.add(name if leave is not None else f"{name} in vain")
                await self._go[name].wait()
                self.here.discard(name)

        self._tasks[name] = asyncio.create_task(run())


async def test_attempts_go_together_while_nobody_wants_to_be_alone() -> None:
    running = Running()
    for name in "abc":
        running.together(name)
    assert await running.seen() == {"a", "b", "c"}
    await running.end("a", "b", "c")


async def test_who_wants_to_be_alone_waits_for_those_who_run_and_holds_up_the_others() -> None:
    running = Running()
    running.together("a")
    await running.seen()
    running.alone("b")
    running.together("c")
    assert await running.seen() == {"a"}
    await running.end("a")
    assert await running.seen() == {"b"}
    await running.end("b")
    assert await running.seen() == {"c"}
    await running.end("c")


async def test_those_who_want_to_be_alone_come_in_turn_before_all_others() -> None:
    running = Running()
    running.alone("a")
    running.together("b")
    running.alone("c")
    assert await running.seen() == {"a"}
    await running.end("a")
    assert await running.seen() == {"c"}
    await running.end("c")
    assert await running.seen() == {"b"}
    await running.end("b")


async def test_who_runs_alone_needs_no_slot_and_is_seen_by_the_watchdog() -> None:
    running = Running(n_slots=1)
    async with running.slots.taken():
        running.alone("a")
        assert await running.seen() == {"a"}
    assert running.slots.longest_run_s() > 0
    await running.end("a")
    assert running.slots.longest_run_s() == 0


async def test_who_waits_for_the_gate_holds_no_slot() -> None:
    running = Running(n_slots=1)
    running.alone("a")
    running.together("b")
    await running.seen()
    async with asyncio.timeout(1), running.slots.taken():
        pass
    await running.end("a", "b")


async def test_who_waited_long_enough_is_not_alone_and_others_go_on() -> None:
    running = Running()
    running.together("a")
    await running.seen()
    running.alone("b", patience_s=0.05)
    running.together("c")
    await until(lambda: running.here == {"a", "b in vain", "c"}, every_s=0.01)
    await running.end("a", "b", "c")


async def test_who_leaves_before_the_end_lets_others_in() -> None:
    gate, slots = Gate(), Slots(4)
    for stay in (gate.alone(slots, None), gate.together(slots)):
        async with stay as leave:
            assert leave is not None
            await leave()
            await leave()
            async with asyncio.timeout(1), gate.alone(slots, None) as other:
                assert other is not None
            async with asyncio.timeout(1), gate.together(slots):
                pass


async def test_a_revoked_record_waits_no_longer_and_leaves_no_trace() -> None:
    running = Running()
    running.together("a")
    await running.seen()
    revoked = running.slots.reopened()

    async def alone() -> None:
        async with running.gate.alone(revoked, None):
            pass

    async def together() -> None:
        async with running.gate.together(revoked):
            pass

    waiting = [asyncio.create_task(alone()), asyncio.create_task(together())]
    await running.seen()
    revoked.close()
    for task in waiting:
        with pytest.raises(Dropped):
            await asyncio.wait_for(task, 1)
    running.together("b")
    assert await running.seen() == {"a", "b"}
    await running.end("a", "b")
