"""Many followers of a topic, one reader of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from backbone.kafka import Last
from gateway.log.catch_up import BACKLOG_MAX
from gateway.log.follower import Follower, OutOfLog
from gateway.log.shared import SharedLog
from tests.doubles.partition_log import MemoryLog

SMALL = 4_500
"""Memory of ten records of these tests."""


@asynccontextmanager
async def running(log: MemoryLog, **changes: Any) -> AsyncIterator[SharedLog]:
    """Read a log until the block ends; warm with nothing unless a test says so."""
    shared = SharedLog(log.open, **({"warm_records": 0, "linger_s": 0.0} | changes))
    task = asyncio.create_task(shared.run())
    try:
        async with asyncio.timeout(10):
            yield shared
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def filled(n: int, key: bytes = b"q") -> MemoryLog:
    log = MemoryLog("answers", {0: 0, 1: 0})
    for each in range(n):
        log.append(0, key, str(each).encode())
    return log


async def offsets(follower: Follower, n: int) -> list[int]:
    return [(await follower.next()).offset for _ in range(n)]


async def test_every_follower_of_a_group_gets_each_record_once() -> None:
    log = filled(0)
    async with running(log) as shared:
        with shared.follow(0, b"q", 0) as one, shared.follow(0, b"q", 0) as another:
            reading = [asyncio.create_task(offsets(each, 3)) for each in (one, another)]
            await one.go_to_end()
            for key in (b"q", b"other", b"q", b"q"):
                log.append(0, key, b"v")
            assert await asyncio.gather(*reading) == [[0, 2, 3], [0, 2, 3]]
    assert len(log.opened) == 1


async def test_what_is_in_the_memory_needs_no_other_reader() -> None:
    log = filled(20)
    async with running(log, warm_records=15) as shared:
        with shared.follow(0, b"q", 7) as follower:
            assert await offsets(follower, 13) == list(range(7, 20))
    assert log.opened == [{0: Last(15)}]


async def test_what_is_older_is_read_once_for_all_who_wait_and_joins_the_present_without_gap_or_repeat() -> None:
    log = filled(30)
    async with running(log, warm_records=5) as shared:
        with shared.follow(0, b"q", 3) as one, shared.follow(0, b"q", 11) as another:
            reading = [asyncio.create_task(offsets(one, 29)), asyncio.create_task(offsets(another, 21))]
            log.append(0, b"q", b"30")
            log.append(0, b"q", b"31")
            assert await asyncio.gather(*reading) == [list(range(3, 32)), list(range(11, 32))]
    assert log.opened == [{0: Last(5)}, {0: 3}]


async def test_two_thousand_who_come_at_once_cost_one_reader_more() -> None:
    log = filled(0)
    for n in range(2_000):
        log.append(0, str(n).encode(), b"v")
    async with running(log) as shared:

        async def first(n: int) -> int:
            with shared.follow(0, str(n).encode(), n) as follower:
                return (await follower.next()).offset

        assert await asyncio.gather(*map(first, range(2_000))) == list(range(2_000))
    assert len(log.opened) == 2


async def test_who_comes_when_a_pass_is_past_its_place_waits_for_the_next_pass() -> None:
    log = filled(30)
    async with running(log) as shared:
        with shared.follow(0, b"q", 20) as one, shared.follow(0, b"q", 4) as late:
            assert (await one.next()).offset == 20
            assert await offsets(late, 26) == list(range(4, 30))
            assert await offsets(one, 9) == list(range(21, 30))


async def test_a_slow_follower_loses_nothing_and_holds_a_bounded_backlog() -> None:
    log = filled(3 * BACKLOG_MAX)
    async with running(log, memory_max_bytes=SMALL) as shared:
        with shared.follow(0, b"q", 0) as slow:
            for offset in range(3 * BACKLOG_MAX):
                assert (await slow.next()).offset == offset
                assert slow.backlog is None or len(slow.backlog) <= BACKLOG_MAX


async def test_a_follower_that_sleeps_while_the_memory_moves_on_loses_nothing() -> None:
    log = filled(1)
    async with running(log, memory_max_bytes=SMALL) as shared:
        with shared.follow(0, b"q", 1) as follower, shared.follow(0, b"other", 1) as other:
            for n in range(50):
                log.append(0, b"other", str(n).encode())
            await offsets(other, 50)
            log.append(0, b"q", b"late")
            assert await offsets(follower, 1) == [51]
            for _ in range(40):
                log.append(0, b"q", b"more")
            await offsets(other, 0)
            assert await offsets(follower, 40) == list(range(52, 92))


async def test_a_wait_that_is_given_up_loses_nothing() -> None:
    log = filled(0)
    async with running(log) as shared:
        with shared.follow(0, b"q", 0) as follower:
            for n in range(20):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0):
                        await follower.next()
                log.append(0, b"q", b"v")
                assert (await follower.next()).offset == n


async def test_what_the_log_has_lost_is_said_once_and_the_rest_follows() -> None:
    log = filled(30)
    log.delete_before(0, 12)
    async with running(log) as shared:
        with shared.follow(0, b"q", 3) as follower:
            with pytest.raises(OutOfLog):
                await follower.next()
            assert await offsets(follower, 18) == list(range(12, 30))


@pytest.mark.parametrize(("offset", "found"), [(7, True), (8, False), (31, False), (1, False)])
async def test_one_record_is_found_by_its_place(offset: int, found: bool) -> None:
    log = filled(8)
    for key in (b"other", b"other", b"q"):
        log.append(0, key, b"v")
    log.delete_before(0, 2)
    async with running(log) as shared:
        with shared.follow(0, b"q", 0) as follower:
            record = await follower.at(offset)
            assert (record is not None) is found
            if found:
                assert (await follower.next()).offset == 10


async def test_a_place_that_another_process_has_read_before_is_waited_for() -> None:
    log = filled(3)
    async with running(log) as shared:
        with shared.follow(0, b"q", 0) as follower:
            finding = asyncio.create_task(follower.at(3))
            await asyncio.sleep(0)
            log.append(0, b"q", b"3")
            record = await finding
            assert record is not None and record.offset == 3


async def test_what_there_is_now_is_given_without_waiting() -> None:
    log = filled(6)
    async with running(log, warm_records=2) as shared:
        with shared.follow(0, b"q", 2) as follower:
            assert [each.offset for each in await follower.until_now()] == [2, 3, 4, 5]
            assert await follower.until_now() == []
            assert follower.caught_up


async def test_a_partition_is_read_while_somebody_follows_it() -> None:
    log = filled(3)
    async with running(log) as shared:
        with shared.follow(0, b"q", 0) as follower:
            await follower.next()
            assert shared.tail(0) is not None
        while shared.tail(0) is not None:  # noqa: ASYNC110
            await asyncio.sleep(0)
        with shared.follow(1, b"q", 0) as follower:
            log.append(1, b"q", b"v")
            assert (await follower.next()).offset == 0


async def test_kafka_that_is_away_at_first_only_delays() -> None:
    log = filled(5)
    log.away = True
    async with running(log) as shared:
        with shared.follow(0, b"q", 2) as follower:
            reading = asyncio.create_task(offsets(follower, 3))
            while not log.opened:  # noqa: ASYNC110
                await asyncio.sleep(0)
            log.away = False
            assert await reading == [2, 3, 4]


async def test_a_topic_that_was_made_anew_is_read_from_its_beginning() -> None:
    log = filled(9)
    async with running(log) as shared:
        with shared.follow(0, b"q", 9) as follower:
            reading = asyncio.create_task(offsets(follower, 1))
            tail = shared.tail(0)
            assert tail is not None
            await tail.until_current()
            log.records[0].clear()
            log.changed()
            log.append(0, b"q", b"anew")
            assert await reading == [0]
