"""Lanes: order within a key, concurrency between keys, bounds, and draining."""

import asyncio

import pytest

from streams.runtime.lanes import WAITING_PER_SLOT, Claims, Dropped, Job, Lanes, Turn
from tests.streams.runtime.waiting import until


def new_lanes(n_slots: int, claims: Claims | None = None) -> Lanes:
    return Lanes(claims or Claims(n_slots), asyncio.get_running_loop().create_future())


class Script:
    """Jobs that wait for a word from the test, and note what happened."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.go: dict[str, asyncio.Event] = {}

    def job(self, name: str, *, claims: bool = False) -> Job:
        self.go[name] = asyncio.Event()

        async def run(turn: Turn) -> None:
            async with turn.slots.taken():
                self.events.append(f"{name} begins")
                if claims:
                    turn.claim()
                try:
                    await self.go[name].wait()
                except asyncio.CancelledError:
                    self.events.append(f"{name} is cancelled")
                    raise
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

    async def resting(turn: Turn) -> None:
        async with turn.slots.taken():
            pass
        await turn.slots.rest(60)

    await lanes.submit(b"k", resting)
    await lanes.submit(b"l", script.job("a"))
    await settled()
    assert script.events == ["a begins"]


async def test_draining_drops_sleepers_and_those_who_wait_and_lets_the_running_end() -> None:
    lanes, script = new_lanes(1), Script()
    dropped = asyncio.Event()

    async def resting(turn: Turn) -> None:
        try:
            await turn.slots.rest(60)
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
    assert script.events == ["hung begins", "hung is cancelled"]


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
    assert script.events == ["0 begins", "0 is cancelled"]


async def test_an_exception_of_a_job_is_told_and_ends_all_starts() -> None:
    lanes, script = new_lanes(1), Script()

    async def broken(turn: Turn) -> None:
        raise RuntimeError("broken")

    await lanes.submit(b"k", broken)
    await settled()
    with pytest.raises(RuntimeError, match="broken"):
        await lanes.failed
    await lanes.submit(b"k", script.job("after"))
    await settled()
    assert script.events == []


async def test_who_waits_for_a_slot_is_let_go_by_draining_at_once() -> None:
    claims, script = Claims(1), Script()
    lanes = new_lanes(1, claims)
    await lanes.submit(b"a", script.job("claimed", claims=True))
    await lanes.submit(b"b", script.job("waiting"))
    await settled()
    assert await lanes.drain(60)
    script.go["claimed"].set()
    await settled()
    assert script.events == ["claimed begins", "claimed ends"]


async def test_a_claimed_job_goes_on_over_a_drain_and_keeps_its_slot() -> None:
    claims, script = Claims(2), Script()
    lanes = new_lanes(2, claims)
    await lanes.submit(b"k", script.job("claimed", claims=True))
    await settled()
    assert await lanes.drain(60)
    following = new_lanes(2, claims)
    for name in ("a", "b"):
        await following.submit(name.encode(), script.job(name))
    await settled()
    assert script.events == ["claimed begins", "a begins"]
    script.go["claimed"].set()
    await settled()
    assert script.events == ["claimed begins", "a begins", "claimed ends", "b begins"]


async def test_a_drain_stops_waiting_for_a_job_that_is_claimed_meanwhile() -> None:
    lanes, script = new_lanes(1), Script()
    may_claim = asyncio.Event()

    async def late(turn: Turn) -> None:
        await may_claim.wait()
        turn.claim()
        await asyncio.Event().wait()

    await lanes.submit(b"k", late)
    await settled()
    draining = asyncio.create_task(lanes.drain(60))
    await settled()
    assert not draining.done()
    may_claim.set()
    assert await draining
    assert script.events == []


async def test_a_claimed_job_frees_its_lane_and_its_place_among_the_admitted() -> None:
    claims, script = Claims(2), Script()
    lanes = new_lanes(2, claims)
    await lanes.submit(b"k", script.job("claimed", claims=True))
    for n in range(2 * (1 + WAITING_PER_SLOT)):
        await asyncio.wait_for(lanes.submit(b"k", script.job(str(n))), 1)
    await settled()
    assert script.events == ["claimed begins", "0 begins"]


def trying_again(events: list[str]) -> Job:
    async def run(turn: Turn) -> None:
        async with turn.slots.taken():
            turn.claim()
        await turn.slots.rest(0.01)
        async with turn.slots.taken():
            events.append("again")

    return run


async def test_a_claimed_job_is_tried_again_after_a_drain() -> None:
    lanes, events = new_lanes(1), list[str]()
    await lanes.submit(b"k", trying_again(events))
    await settled()
    assert await lanes.drain(60)
    await until(lambda: events == ["again"])


async def test_a_claimed_job_is_not_tried_again_while_the_process_stops() -> None:
    claims, events = Claims(1), list[str]()
    await new_lanes(1, claims).submit(b"k", trying_again(events))
    await settled()
    assert await claims.end(60)
    assert events == []


async def test_claimed_jobs_are_cancelled_when_their_time_to_end_is_over() -> None:
    claims, script = Claims(2), Script()
    lanes = new_lanes(2, claims)
    await lanes.submit(b"a", script.job("quick", claims=True))
    await lanes.submit(b"b", script.job("slow", claims=True))
    await settled()
    script.go["quick"].set()
    assert not await claims.end(0.01)
    assert script.events == ["quick begins", "slow begins", "quick ends", "slow is cancelled"]


async def test_a_claim_while_the_process_stops_leaves_the_job_to_the_drain() -> None:
    claims, script = Claims(1), Script()
    lanes = new_lanes(1, claims)
    claims.close()
    await lanes.submit(b"k", script.job("late", claims=True))
    await settled()
    assert not await lanes.drain(0.01)
    assert script.events == ["late begins", "late is cancelled"]


async def test_an_exception_of_a_claimed_job_is_told() -> None:
    lanes = new_lanes(1)

    async def broken(turn: Turn) -> None:
        turn.claim()
        raise RuntimeError("broken")

    await lanes.submit(b"k", broken)
    with pytest.raises(RuntimeError, match="broken"):
        await asyncio.wait_for(lanes.failed, 1)
