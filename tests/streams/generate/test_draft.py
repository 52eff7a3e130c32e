import asyncio
from collections.abc import AsyncIterator

import pytest

from schemas.events import Answer
from streams.errors import Transient
from streams.generate.draft import Draft


async def at_once(*pieces: str | Answer) -> AsyncIterator[str | Answer]:
    for piece in pieces:
        yield piece


async def failing(error: Exception) -> AsyncIterator[str | Answer]:
    yield "One"
    raise error


async def hanging() -> AsyncIterator[str | Answer]:
    await asyncio.Event().wait()
    yield "never"


async def batches(draft: Draft) -> list[str]:
    told = []
    while (batch := await asyncio.wait_for(draft.next(), 5)) is not None:
        told.append(batch)
    return told


async def test_pieces_that_are_there_at_once_make_one_batch_without_waiting() -> None:
    async with Draft(at_once("One", "", " two", Answer(text="One two")), pause_s=60) as draft:
        assert await batches(draft) == ["One two"]
        assert (draft.told, draft.answer) == ("One two", Answer(text="One two"))


async def test_a_text_without_pieces_ends() -> None:
    async with Draft(at_once(), pause_s=60) as draft:
        assert await batches(draft) == []
        assert (draft.told, draft.answer) == ("", None)


async def test_the_answerers_error_comes_after_what_it_had_said() -> None:
    async with Draft(failing(Transient("away")), pause_s=0) as draft:
        assert await draft.next() == "One"
        with pytest.raises(Transient, match="away"):
            await draft.next()


async def test_a_stop_wakes_who_waits_for_a_batch() -> None:
    async with Draft(hanging(), pause_s=60) as draft:
        waiting = asyncio.create_task(draft.next())
        await asyncio.sleep(0)
        draft.stop("cancelled")
        draft.stop("lost")
        assert await asyncio.wait_for(waiting, 5) is None
        assert draft.stopped == "cancelled"


async def test_a_draft_stopped_before_it_begins_asks_nobody() -> None:
    asked = False

    async def pieces() -> AsyncIterator[str | Answer]:
        nonlocal asked
        asked = True
        yield "One"

    draft = Draft(pieces(), pause_s=60)
    draft.stop("cancelled")
    async with draft:
        assert await batches(draft) == []
    assert not asked
