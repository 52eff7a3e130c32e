"""What every `Holders` does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from streams.adapters.postgres_holders import PostgresHolders
from streams.runtime.holders import Holders, Note, Place
from tests.doubles.holders import MemoryHolders

HERE = Place(group="rag.embed.g1", topic_id="t1", partition=0)
THERE = Place(group="rag.index.g1", topic_id="t2", partition=0)


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The port as any process has it, by the name of the process, and ten minutes that pass."""

    named: Callable[[str], Holders]
    let_pass: Callable[[Place], Awaitable[None]]

    async def take(self, holder: str, place: Place = HERE, position: int = 7) -> Note:
        """Take one partition and return its note."""
        return (await self.named(holder).take({place: position}))[place]


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def processes(request: pytest.FixtureRequest) -> Processes:
    if request.param == "double":
        notes: dict[Place, Note] = {}

        async def forget(place: Place) -> None:
            MemoryHolders(holder="any", notes=notes).forget(place)

        return Processes(named=lambda holder: MemoryHolders(holder=holder, notes=notes), let_pass=forget)
    pool = request.getfixturevalue("pool")

    async def let_pass(place: Place) -> None:
        await pool.execute("UPDATE holders SET killer_at = killer_at - interval '601 s'")

    return Processes(named=lambda holder: PostgresHolders(pool=pool, holder=holder), let_pass=let_pass)


async def test_what_nobody_held_is_taken_without_suspicion(processes: Processes) -> None:
    assert await processes.take("a") == Note(holder="a")
    assert await processes.take("a") == Note(holder="a")


async def test_who_follows_upon_one_that_left_suspects_nothing(processes: Processes) -> None:
    await processes.take("a")
    await processes.named("a").leave([HERE])

    assert await processes.take("b") == Note(holder="b")


async def test_who_follows_upon_a_dead_one_has_records_to_run_alone(processes: Processes) -> None:
    await processes.take("a")

    assert await processes.take("b") == Note(holder="b", position=7, crashes=1, due=True)
    assert await processes.take("b") == Note(holder="b", position=7, crashes=1, due=True)


async def test_what_is_due_stays_so_until_it_is_settled(processes: Processes) -> None:
    await processes.take("a")
    await processes.take("b")
    await processes.named("b").leave([HERE])
    assert (await processes.take("c")).due

    await processes.named("c").settle([HERE], idle=False)

    assert await processes.take("c") == Note(holder="c", position=7, crashes=1)


async def test_deaths_at_one_position_add_up(processes: Processes) -> None:
    await processes.take("a")
    await processes.take("b")
    await processes.named("b").settle([HERE], idle=False)
    assert (await processes.take("c")).crashes == 2

    assert (await processes.take("d", position=8)).crashes == 1


async def test_deaths_of_who_had_nothing_to_do_do_not_add_up(processes: Processes) -> None:
    await processes.take("a")
    await processes.take("b")
    await processes.named("b").settle([HERE], idle=True)

    assert (await processes.take("c")).crashes == 1


async def test_a_record_whose_mark_is_found_is_a_suspect_of_two_deaths_then_of_three(processes: Processes) -> None:
    await processes.take("a")
    await processes.take("b")
    assert await processes.named("b").mark(HERE, 9)

    assert await processes.take("c") == Note(holder="c", suspect=9, deaths=2, victim="b", position=7)
    assert await processes.named("c").mark(HERE, 9)
    assert await processes.take("d") == Note(holder="d", suspect=9, deaths=3, victim="c", position=7)


async def test_another_suspect_begins_at_two_deaths(processes: Processes) -> None:
    for holder, offset in (("a", 9), ("b", 11)):
        await processes.take(holder)
        await processes.named(holder).mark(HERE, offset)

    note = await processes.take("c")

    assert (note.suspect, note.deaths) == (11, 2)


async def test_who_runs_alone_to_an_end_is_no_suspect(processes: Processes) -> None:
    await processes.take("a")
    await processes.named("a").mark(HERE, 9)
    await processes.take("b")
    await processes.named("b").mark(HERE, 9)

    await processes.named("b").clear(HERE, 9, well=True)

    assert await processes.take("b") == Note(holder="b", victim="a")


async def test_who_was_stopped_stays_a_suspect(processes: Processes) -> None:
    await processes.take("a")
    await processes.named("a").mark(HERE, 9)
    await processes.take("b")
    await processes.named("b").mark(HERE, 9)

    await processes.named("b").clear(HERE, 9, well=False)
    await processes.named("b").leave([HERE])

    assert await processes.take("c") == Note(holder="c", suspect=9, deaths=2, victim="a")


async def test_an_innocent_one_that_runs_alone_leaves_the_suspect(processes: Processes) -> None:
    await processes.take("a")
    await processes.named("a").mark(HERE, 9)
    await processes.take("b")
    await processes.named("b").mark(HERE, 8)

    await processes.named("b").clear(HERE, 8, well=True)

    assert (await processes.take("b")).suspect == 9


async def test_what_was_given_up_is_no_suspect_and_is_remembered_for_a_while(processes: Processes) -> None:
    await processes.take("a")
    await processes.named("a").mark(HERE, 9)
    await processes.take("b")
    await processes.named("b").mark(HERE, 9)

    await processes.named("b").condemn(HERE, 9, b"it")

    await processes.named("b").leave([HERE])
    assert await processes.take("c") == Note(holder="c", victim="a", position=0, killer=b"it")
    await processes.named("c").mark(HERE, 10)
    await processes.named("c").clear(HERE, 10, well=True)
    assert (await processes.take("c")).killer == b"it"
    await processes.let_pass(HERE)
    assert (await processes.take("c")).killer is None


async def test_nobody_condemns_what_is_not_marked(processes: Processes) -> None:
    await processes.take("a")
    await processes.named("a").mark(HERE, 9)

    await processes.named("a").condemn(HERE, 8, b"it")
    await processes.named("b").condemn(HERE, 9, b"it")

    assert (await processes.take("b")).killer is None


async def test_a_death_is_explained_by_what_ran_alone_in_another_partition(processes: Processes) -> None:
    await processes.named("a").take({HERE: 7})
    await processes.named("a").take({THERE: 3})
    await processes.named("a").mark(HERE, 9)

    # whichever is looked at first
    assert await processes.take("b", THERE) == Note(holder="b")
    assert (await processes.take("b", HERE)).suspect == 9
    await processes.named("b").mark(HERE, 9)
    assert (await processes.take("c", HERE)).deaths == 3
    assert await processes.take("c", THERE) == Note(holder="c")


async def test_a_death_that_is_explained_leaves_nothing_due(processes: Processes) -> None:
    for holder in ("a", "b"):
        await processes.named(holder).take({HERE: 7, THERE: 3})
    await processes.named("b").mark(THERE, 5)

    notes = await processes.named("c").take({HERE: 7, THERE: 3})

    assert notes[HERE] == Note(holder="c", position=7)
    assert notes[THERE] == Note(holder="c", suspect=5, deaths=2, victim="b", position=3)


async def test_who_lost_a_partition_changes_nothing_any_more(processes: Processes) -> None:
    zombie = processes.named("a")
    await processes.take("a")
    held = await processes.take("b")

    assert not await zombie.mark(HERE, 9)
    await zombie.clear(HERE, 9, well=True)
    await zombie.settle([HERE], idle=True)
    await zombie.leave([HERE])

    assert await processes.take("b") == held


async def test_clearing_what_is_not_marked_changes_nothing(processes: Processes) -> None:
    await processes.take("a")
    await processes.named("a").mark(HERE, 9)

    await processes.named("a").clear(HERE, 8, well=True)

    assert (await processes.take("b")).suspect == 9


async def test_places_differ_by_group_topic_and_partition(processes: Processes) -> None:
    await processes.take("a")
    others = (
        Place(group="g2", topic_id="t1", partition=0),
        Place(group=HERE.group, topic_id="t9", partition=0),
        Place(group=HERE.group, topic_id="t1", partition=1),
    )
    assert set((await processes.named("b").take(dict.fromkeys(others, 0))).values()) == {Note(holder="b")}
