"""Counting open dead letters."""

from dataclasses import replace

from streams.operator.counting import CountOpen
from tests.contract.test_letter_store import LETTER, PLACE
from tests.doubles.letter_store import MemoryLetters


async def test_every_stage_is_told_also_when_it_has_none_left() -> None:
    letters, told = MemoryLetters(), dict[str, int]()
    count = CountOpen(letters=letters, stages=("chunk", "embed"), counted=told.__setitem__)
    await letters.register(LETTER)
    await letters.register(replace(LETTER, place=replace(PLACE, offset=8)))
    await count.round()
    assert told == {"chunk": 0, "embed": 2}

    letters.ask(PLACE)
    await count.round()
    assert told == {"chunk": 0, "embed": 1}
