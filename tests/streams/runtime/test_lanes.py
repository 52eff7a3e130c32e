"""Lanes: order within a key, concurrency between keys, bounds, and draining."""

import asyncio

import pytest

from streams.runtime.lanes import WAITING_PER_SLOT, Dropped, Job, Lanes, Slots


def new_lanes(n_slots: int) -> Lanes:
    return Lanes(n_slots, asyncio.get_running_loop().create_future())


class Script:
    """Jobs that wait for a word from the test, and note what happened."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.go: dict[str, asyncio.Event] = {}

    def job(self, name: str) -> Job:
        self.go[name] = asyncio.Event()

        async def run(slots: Slots) -> None:
            async with slots.taken():
                self.events.append(f"{name} begins")
                await self.go[name].wait()
                self.events.append(f"{name} ends")

        return run


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_records_of_one_key_run_one_after_the_other() -> None:
    lanes, script = new_lanes(4), Script()
    await lanes.submit(b"k", script.job("a"))
    await lanes.submit(b"k", script.job("b"))
    await settled()
    assert script.events == ["a begins"]
    script.go["b"].set()
    script.go["a"].set()
    await settled()
    assert script.events == ["a begins", "a ends", "b begins", "b ends"]


async def test_records_of_different_keys_and_of_none_run_at_once() -> None:
    lanes, script = new_lanes(4), Script()
    for key, name in ((b"k", "a"), (b"l", "b"), (None, "c"), (None, "d")):
        await lanes.submit(key, script.job(name))
    await settled()
    assert script.events == ["a begins", "b begins", "c begins", "d begins"]


async def test_no_more_run_than_there_are_slots() -> None:
    lanes, script = new_lanes(2), Script()
    for n in range(4):
        await lanes.submit(None, script.job(str(n)))
    await settled()
    assert script.events == ["0 begins", "1 begins"]
    script.go["0"].set()
    await settled()
    assert script.events == ["0 begins", "1 begins", "0 ends", "2 begins"]


async def test_submitting_waits_when_too_many_wait_already() -> None:
    lanes, script = new_lanes(1), Script()
    for n in range(1 + WAITING_PER_SLOT):
        await lanes.submit(b"k", script.job(str(n)))
    one_more = asyncio.create_task(lanes.submit(b"k", script.job("more")))
    await settled()
    assert not one_more.done()
    script.go["0"].set()
    await settled()
    assert one_more.done()


async def test_a_record_that_rests_leaves_its_slot_to_others() -> None:
    lanes, script = new_lanes(1), Script()

    async def resting(slots: Slots) -> None:
        async with slots.taken():
            pass
        await slots.rest(60)

    await lanes.submit(b"k", resting)
    await lanes.submit(b"l", script.job("a"))
    await settled()
    assert script.events == ["a begins"]


async def test_draining_drops_sleepers_and_those_who_wait_and_lets_the_running_end() -> None:
    lanes, script = new_lanes(1), Script()
    dropped = asyncio.Event()

    async def resting(slots: Slots) -> None:
        try:
            await slots.rest(60)
        except Dropped:
            dropped.set()
            raise

    await lanes.submit(b"r", resting)
    await lanes.submit(b"k", script.job("running"))
    await lanes.submit(b"k", script.job("waiting"))
    await settled()
    draining = asyncio.create_task(lanes.drain(60))
    await settled()
    assert dropped.is_set()
    script.go["running"].set()
    assert await draining
    assert script.events == ["running begins", "running ends"]


async def test_draining_cancels_what_does_not_end_in_time() -> None:
    lanes, script = new_lanes(1), Script()
    await lanes.submit(b"k", script.job("hung"))
    await settled()
    assert not await lanes.drain(0.01)
    assert script.events == ["hung begins"]


async def test_who_waits_to_submit_is_let_go_by_draining() -> None:
    lanes, script = new_lanes(1), Script()
    for n in range(1 + WAITING_PER_SLOT):
        await lanes.submit(b"k", script.job(str(n)))
    waiting = [asyncio.create_task(lanes.submit(b"k", script.job("late"))) for _ in range(2)]
    await settled()
    await lanes.drain(0.01)
    await asyncio.wait_for(asyncio.gather(*waiting), 1)
    await lanes.submit(b"k", script.job("after"))
    await settled()
    assert script.events == ["0 begins"]


async def test_an_exception_of_a_job_is_told_and_ends_all_starts() -> None:
    lanes, script = new_lanes(1), Script()

    async def broken(slots: Slots) -> None:
        raise RuntimeError("broken")

    await lanes.submit(b"k", broken)
    await settled()
    with pytest.raises(RuntimeError, match="broken"):
        await lanes.failed
    await lanes.submit(b"k", script.job("after"))
    await settled()
    assert script.events == []
