"""Isolation: which records run alone after a death, what is noted of them, and what if that fails."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

import pytest

from streams.runtime.gate import Gate
from streams.runtime.holders import REMEMBERED_S, Note, Place
from streams.runtime.isolation import Isolation, Solo
from streams.runtime.lanes import Dropped, Slots
from tests.doubles.holders import MemoryHolders
from tests.streams.runtime.waiting import until

GROUP = "rag.embed.g1"
PLACE = Place(group=GROUP, topic_id="t1", partition=0)


class Stage:
    """A stage with a window of two whose partition ended at offset 100 when it was assigned."""

    def __init__(self, note: Note | None = None, *, alone_s: float = 20.0) -> None:
        self.holders = MemoryHolders(holder="me", notes={} if note is None else {PLACE: note})
        self.gate, self.slots, self.n_lost, self.now_s = Gate(), Slots(2), 0, 1_000.0
        self.isolation = Isolation(
            holders=self.holders,
            gate=self.gate,
            group=GROUP,
            window=2,
            lost=self._lose,
            alone_s=alone_s,
            suspect_waits_s=0.05,
            now=lambda: self.now_s,
        )

    async def begin(self, position: int = 10, end: int = 100) -> None:
        async def ends(places: Iterable[tuple[str, int]]) -> Mapping[tuple[str, int], int]:
            return dict.fromkeys(places, end)

        await self.isolation.begin({("t1", 0): position}, ends)

    def solos(self, *offsets: int) -> list[Solo | None]:
        return [self.judged(self.isolation.of("t1", 0, offset), offset) for offset in offsets]

    def judged(self, solo: Solo | None, offset: int) -> Solo | None:
        return self.isolation.judged(solo, "t1", 0, offset, b"record %d" % (offset % 1000))

    def alone(self, *offsets: int) -> list[int]:
        """Which of these records run alone."""
        return [solo.offset for solo in self.solos(*offsets) if solo is not None]

    def solo(self, offset: int) -> Solo:
        (solo,) = self.solos(offset)
        assert solo is not None
        return solo

    @property
    def note(self) -> Note:
        return self.holders.notes[PLACE]

    def _lose(self) -> None:
        self.n_lost += 1


async def run(stage: Stage, solo: Solo) -> None:
    async with solo.running(stage.slots):
        pass


DEAD = Note(holder="dead")


async def test_no_record_runs_alone_where_the_holder_before_left_in_good_order() -> None:
    stage = Stage(Note(holder=None, position=10, crashes=1))
    await stage.begin()
    assert stage.alone(10, 11, 12) == []
    assert stage.note.holder == "me"


async def test_after_a_death_the_first_records_run_alone() -> None:
    stage = Stage(DEAD)
    await stage.begin()
    assert stage.alone(10, 14, 15, 16) == [10, 14]


async def test_with_each_death_at_one_offset_twice_as_many_run_alone_for_twice_as_long() -> None:
    stage = Stage(replace(DEAD, position=10, crashes=2))
    await stage.begin()
    solos = stage.solos(*range(10, 20))
    assert [solo is not None for solo in solos] == [True] * 8 + [False] * 2
    assert solos[0] is not None
    assert solos[0].alone_s == 80.0


async def test_records_that_came_after_the_death_run_with_the_others() -> None:
    stage = Stage(DEAD)
    await stage.begin(end=11)
    assert stage.alone(10, 11) == [10]


async def test_where_nothing_was_unfinished_nothing_is_due() -> None:
    stage = Stage(replace(DEAD, position=10, crashes=3))
    await stage.begin(end=10)
    assert stage.alone(10) == []
    assert (stage.note.due, stage.note.crashes) == (False, 0)


async def test_other_partitions_are_left_alone() -> None:
    stage = Stage(DEAD)
    await stage.begin()
    for place in (("t1", 1), ("t2", 0)):
        assert stage.isolation.of(*place, 10) is None


async def test_what_is_due_is_settled_when_the_last_has_run() -> None:
    stage = Stage(DEAD)
    await stage.begin()
    first, second = stage.solo(10), stage.solo(11)
    await run(stage, second)
    assert stage.note.due
    await run(stage, first)
    assert not stage.note.due


async def test_a_window_whose_last_records_are_gone_from_the_log_is_closed_by_the_next_one() -> None:
    stage = Stage(replace(DEAD, position=10, crashes=5))
    await stage.begin()
    first, beyond = stage.solo(10), stage.solo(105)
    assert stage.alone(106) == []
    for solo in (first, beyond):
        await run(stage, solo)
    assert not stage.note.due


async def test_a_record_is_marked_while_it_runs_alone() -> None:
    stage = Stage(DEAD)
    await stage.begin()
    async with stage.solo(10).running(stage.slots):
        assert stage.note.alone == 10
    assert stage.note.alone is None


async def test_the_mark_is_gone_before_others_are_let_in() -> None:
    stage = Stage(DEAD)
    await stage.begin()
    seen: list[int | None] = []

    async def other() -> None:
        async with stage.gate.together(stage.slots):
            seen.append(stage.note.alone)

    async with stage.solo(10).running(stage.slots) as leave:
        waiting = asyncio.create_task(other())
        await asyncio.sleep(0.01)
        assert seen == []
        # as when the record was claimed
        await leave()
        await asyncio.wait_for(waiting, 1)
    assert seen == [None]


async def test_a_suspect_that_comes_to_an_end_is_none_any_more() -> None:
    stage = Stage(replace(DEAD, alone=12))
    await stage.begin()
    assert stage.alone(10, 11) == []
    suspect = stage.solo(12)
    assert (suspect.deaths, suspect.alone_s, suspect.given_up) == (2, None, False)
    with pytest.raises(ValueError):
        async with suspect.running(stage.slots):
            raise ValueError
    assert (stage.note.suspect, stage.note.deaths) == (None, 0)


async def test_a_suspect_lets_others_go_on_first() -> None:
    stage = Stage(replace(DEAD, alone=12))
    await stage.begin()
    running = asyncio.create_task(run(stage, stage.solo(12)))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(1), stage.gate.together(stage.slots):
        assert stage.note.alone is None
    await asyncio.wait_for(running, 2)
    assert stage.note.suspect is None


async def test_a_suspect_that_was_cancelled_stays_one() -> None:
    stage = Stage(replace(DEAD, alone=12))
    await stage.begin()
    suspect = stage.solo(12)

    async def hang() -> None:
        async with suspect.running(stage.slots):
            await asyncio.Event().wait()

    task = asyncio.create_task(hang())
    await until(lambda: stage.note.alone == 12)
    task.cancel()
    await asyncio.wait({task})
    assert (stage.note.alone, stage.note.suspect, stage.note.deaths) == (None, 12, 2)


async def test_at_the_third_death_a_suspect_is_given_up() -> None:
    stage = Stage(replace(DEAD, alone=12, suspect=12, deaths=2))
    await stage.begin()
    suspect = stage.solo(12)
    assert suspect.given_up
    async with suspect.marked():
        assert stage.note.alone == 12
    assert (stage.note.suspect, stage.note.deaths) == (None, 0)


async def test_copies_of_what_was_given_up_are_given_up_unrun_and_unread() -> None:
    stage = Stage(replace(DEAD, alone=12, suspect=12, deaths=2))
    await stage.begin()
    suspect = stage.solo(12)
    waiting = stage.isolation.of("t1", 0, 3012)
    assert suspect.readable
    async with suspect.marked():
        pass
    judged = stage.judged(waiting, 3012)
    assert judged is not None and judged.known
    assert stage.alone(13, 1013) == []
    for offset in (1012, 2012):
        copy = stage.solo(offset)
        assert (copy.given_up, copy.known, copy.readable) == (True, True, False)
        async with copy.marked():
            assert stage.note.alone == offset
        assert stage.note.alone is None


async def test_who_comes_after_knows_what_was_given_up() -> None:
    stage = Stage(Note(killer=b"record 12"))
    await stage.begin()
    assert stage.alone(11, 12) == [12]


async def test_what_was_given_up_is_forgotten_some_time_later() -> None:
    stage = Stage(Note(killer=b"record 12"))
    await stage.begin()
    stage.now_s += REMEMBERED_S - 1
    assert stage.alone(12) == [12]
    stage.now_s += 2
    assert stage.alone(12) == []


async def test_a_worker_that_dies_of_giving_a_record_up_leaves_it_unreadable() -> None:
    stage = Stage(replace(DEAD, alone=12, suspect=12, deaths=3))
    await stage.begin()
    assert not stage.solo(12).readable


async def test_a_suspect_beyond_the_window_still_runs_alone() -> None:
    stage = Stage(Note(holder="dead", suspect=50, deaths=2))
    await stage.begin()
    for solo in stage.solos(10, 11):
        assert solo is not None
        await run(stage, solo)
    assert stage.alone(12, 50, 51) == [50]


async def test_a_record_that_takes_too_long_is_alone_no_more() -> None:
    stage = Stage(DEAD, alone_s=0.05)
    await stage.begin()
    async with stage.solo(10).running(stage.slots):
        assert stage.note.alone == 10
        async with asyncio.timeout(2), stage.gate.together(stage.slots):
            assert stage.note.alone is None


async def test_a_record_beside_which_others_run_on_for_too_long_is_not_marked() -> None:
    stage = Stage(DEAD, alone_s=0.05)
    await stage.begin(end=11)
    async with stage.gate.together(stage.slots), asyncio.timeout(2), stage.solo(10).running(stage.slots):
        assert stage.note.alone is None
    assert not stage.note.due


async def test_leaving_in_good_order_takes_the_note_back_and_leaves_what_is_due() -> None:
    stage = Stage(DEAD)
    await stage.begin()
    await stage.isolation.end()
    assert (stage.note.holder, stage.note.due) == (None, True)
    assert stage.alone(10) == []


async def test_a_note_that_shall_be_kept_stands_at_the_end() -> None:
    stage = Stage()
    await stage.begin()
    stage.isolation.keep()
    await stage.isolation.end()
    assert stage.note.holder == "me"


async def test_without_the_store_at_the_beginning_the_stage_goes_on_and_the_old_note_stands() -> None:
    stage = Stage(DEAD)
    stage.holders.away = True
    await stage.begin()
    assert stage.alone(10, 11) == []
    stage.holders.away = False
    await stage.isolation.end()
    assert stage.note == DEAD


async def test_without_the_store_later_on_records_run_alone_unmarked() -> None:
    stage = Stage(DEAD)
    await stage.begin()
    first, second = stage.solo(10), stage.solo(11)
    stage.holders.away = True
    for solo in (first, second):
        async with solo.running(stage.slots):
            assert stage.note.alone is None
    await stage.isolation.end()
    assert (stage.note.holder, stage.note.due) == ("me", True)


async def test_who_finds_the_partition_anothers_drops_the_record_and_begins_anew() -> None:
    stage = Stage(DEAD)
    await stage.begin()
    stage.holders.notes[PLACE] = replace(stage.note, holder="other")
    with pytest.raises(Dropped):
        await run(stage, stage.solo(10))
    assert stage.n_lost == 1
    assert stage.note.alone is None
    async with asyncio.timeout(1), stage.gate.together(stage.slots):
        pass


async def test_two_stages_of_one_process_run_their_records_alone_in_turn() -> None:
    one, two = Stage(DEAD), Stage(DEAD)
    two.isolation.gate = one.gate
    for stage in (one, two):
        await stage.begin()
    n_here = n_most = 0

    async def alone(stage: Stage, solo: Solo) -> None:
        nonlocal n_here, n_most
        async with solo.running(stage.slots):
            n_here += 1
            n_most = max(n_most, n_here)
            await asyncio.sleep(0.005)
            n_here -= 1

    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        for stage in (one, two):
            for offset in (10, 11):
                group.create_task(alone(stage, stage.solo(offset)))
    assert n_most == 1
