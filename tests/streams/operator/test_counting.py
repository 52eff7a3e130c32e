"""Counting open dead letters."""

from dataclasses import replace

from streams.operator.counting import CountOpen
from tests.contract.test_letter_store import LETTER, PLACE, WHY
from tests.doubles.letter_store import MemoryLetters


async def test_stages_and_reasons_are_told_apart_and_told_also_when_none_is_left() -> None:
    letters, told = MemoryLetters(), dict[tuple[str, str], int]()

    def counted(stage: str, reason: str, n: int) -> None:
        told[stage, reason] = n

    count = CountOpen(letters=letters, counted=counted)
    await letters.register(LETTER)
    await letters.register(replace(LETTER, place=replace(PLACE, offset=8)))
    killer = replace(LETTER, place=replace(PLACE, offset=9), why=replace(WHY, reason="kills_worker"))
    await letters.register(killer)
    await count.round()
    assert told == {("embed", WHY.reason): 2, ("embed", "kills_worker"): 1}

    letters.ask(PLACE)
    letters.ask(killer.place)
    await count.round()
    assert told == {("embed", WHY.reason): 1, ("embed", "kills_worker"): 0}
