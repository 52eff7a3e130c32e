"""What every `LetterStore` does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from schemas.dead_letters import Why
from streams.adapters.postgres_letters import PostgresLetters
from streams.operator.letters import Letter, LetterStore, Place
from tests.doubles.letter_store import MemoryLetters

PLACE = Place(stage="embed", partition=0, offset=7)
WHY = Why(
    stage="embed",
    reason="bug",
    message="ü\x00",
    attempts=2,
    topic="rag.chunks.structure.v1",
    topic_id="t1",
    partition=3,
    offset=9,
    group="rag.embed.g1",
)
LETTER = Letter(
    place=PLACE,
    why=WHY,
    failed_ms=1_000,
    tenant="acme",
    document="guide",
    version=4,
    query=None,
    key=b"acme/guide",
    n_bytes=12,
)


@dataclass(frozen=True, kw_only=True)
class Register:
    """A store, what the gateway does to it, and what is seen in it: (state, why)."""

    letters: LetterStore
    ask: Callable[[Place], Awaitable[None]]
    state: Callable[[Place], Awaitable[tuple[str, str | None]]]


def in_memory() -> Register:
    letters = MemoryLetters()

    async def ask(place: Place) -> None:
        letters.ask(place)

    async def state(place: Place) -> tuple[str, str | None]:
        return letters.rows[place].state, letters.rows[place].why

    return Register(letters=letters, ask=ask, state=state)


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def register(request: pytest.FixtureRequest) -> Register:
    if request.param == "double":
        return in_memory()
    pool = request.getfixturevalue("pool")

    async def ask(place: Place) -> None:
        await pool.execute(
            "UPDATE dead_letters SET state = 'redrive', changed_at = clock_timestamp() "
            'WHERE stage = $1 AND partition = $2 AND "offset" = $3',
            place.stage,
            place.partition,
            place.offset,
        )

    async def state(place: Place) -> tuple[str, str | None]:
        row = await pool.fetchrow(
            'SELECT state, why FROM dead_letters WHERE stage = $1 AND partition = $2 AND "offset" = $3',
            place.stage,
            place.partition,
            place.offset,
        )
        return row["state"], row["why"]

    return Register(letters=PostgresLetters(pool=pool), ask=ask, state=state)


def at(offset: int) -> Letter:
    return replace(LETTER, place=replace(PLACE, offset=offset))


async def test_a_registered_letter_is_open(register: Register) -> None:
    await register.letters.register(LETTER)

    assert await register.state(PLACE) == ("open", None)
    async with register.letters.next_to_redrive() as task:
        assert task is None


async def test_registered_again_it_stays_as_it_is(register: Register) -> None:
    await register.letters.register(LETTER)
    await register.ask(PLACE)
    await register.letters.register(LETTER)

    assert await register.state(PLACE) == ("redrive", None)


async def test_a_later_one_at_its_place_replaces_it(register: Register) -> None:
    await register.letters.register(LETTER)
    await register.ask(PLACE)
    await register.letters.register(replace(LETTER, failed_ms=2_000, tenant="globex"))

    assert await register.state(PLACE) == ("open", None)


async def test_what_waits_longest_is_redriven_first_as_it_was_registered(register: Register) -> None:
    for offset in (1, 2, 3):
        await register.letters.register(at(offset))
    for offset in (3, 1):
        await register.ask(at(offset).place)

    async with register.letters.next_to_redrive() as task:
        assert task is not None
        told = replace(task.letter.why, message=WHY.message)
        assert replace(task.letter, why=told) == at(3)
        task.become("redriven")

    assert await register.state(at(3).place) == ("redriven", None)


async def test_what_cannot_be_redriven_is_open_and_says_why(register: Register) -> None:
    await register.letters.register(LETTER)
    await register.ask(PLACE)
    async with register.letters.next_to_redrive() as task:
        assert task is not None
        task.become("open", "gone")

    assert await register.state(PLACE) == ("open", "gone")


async def test_one_that_is_held_is_passed_over(register: Register) -> None:
    for offset in (1, 2):
        await register.letters.register(at(offset))
        await register.ask(at(offset).place)

    async with register.letters.next_to_redrive() as first, register.letters.next_to_redrive() as second:
        assert first is not None and second is not None
        assert (first.letter.place.offset, second.letter.place.offset) == (1, 2)
        async with register.letters.next_to_redrive() as third:
            assert third is None


async def test_a_failure_changes_nothing(register: Register) -> None:
    await register.letters.register(LETTER)
    await register.ask(PLACE)
    with pytest.raises(RuntimeError):
        async with register.letters.next_to_redrive() as task:
            assert task is not None
            task.become("redriven")
            raise RuntimeError

    assert await register.state(PLACE) == ("redrive", None)


async def test_open_ones_are_counted_by_stage_and_reason(register: Register) -> None:
    for offset in (1, 2, 3):
        await register.letters.register(at(offset))
    await register.letters.register(replace(at(4), why=replace(WHY, reason="kills_worker")))
    await register.letters.register(replace(LETTER, place=replace(PLACE, stage="chunk")))
    await register.ask(at(2).place)

    assert await register.letters.n_open() == {
        ("embed", WHY.reason): 2,
        ("embed", "kills_worker"): 1,
        ("chunk", WHY.reason): 1,
    }
