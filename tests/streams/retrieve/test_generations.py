"""Generations are opened as the catalogue names them, and one that breaks takes no other down."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from streams.errors import Fatal, Transient
from streams.ports import Generation
from streams.retrieve.generations import Opened, OpenGenerations
from streams.retrieve.handler import Retrieve


@dataclass(kw_only=True)
class Worker:
    """A retrieval worker over a catalogue whose first generation answers; `broken` are raised by opening."""

    held_now: list[Generation]
    broken: dict[str, Exception] = field(default_factory=dict)
    breaking: dict[str, asyncio.Event] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.woken = asyncio.Event()
        self.searches = OpenGenerations(
            catalogue=self,
            open=self.open,
            woken=self.woken,
            gone=lambda chunkers: self.told.append(f"needed: {sorted(chunkers)}"),
            failed_s=0.01,
        )

    async def serving(self) -> str:
        return self.held_now[0].name

    async def held(self) -> Sequence[Generation]:
        return list(self.held_now)

    async def find(self, name: str) -> Generation | None:
        return next((each for each in self.held_now if each.name == name), None)

    @asynccontextmanager
    async def open(self, generation: Generation) -> AsyncIterator[Opened]:
        if (error := self.broken.get(generation.name)) is not None:
            raise error
        broken = self.breaking.setdefault(generation.name, asyncio.Event())

        async def breaks() -> None:
            await broken.wait()
            broken.clear()
            raise OSError("the view is gone")

        self.told.append(f"open {generation.name}")
        try:
            yield Opened(search=cast(Retrieve, generation.name), beside=(breaks(),))
        finally:
            self.told.append(f"closed {generation.name}")

    async def can_search(self, name: str) -> bool:
        try:
            return bool(cast(Any, await self.searches.search(name)) == name)
        except Transient:
            return False


def generation(name: str, chunker: str = "structure", state: str = "following") -> Generation:
    return Generation(name=name, chunker=chunker, embedder="e", dim=4, state=state)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(worker.searches.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, ExceptionGroup):
            await task


async def test_what_comes_is_opened_and_what_goes_is_closed_while_others_go_on() -> None:
    worker = Worker(held_now=[generation("g1")])
    async with running(worker):
        async with asyncio.timeout(5):
            await worker.searches.ready()
        worker.held_now.append(generation("g2", "tokens"))
        worker.woken.set()
        await until(lambda: "open g2" in worker.told)
        assert await worker.can_search("g2")
        # its state is nothing that closes it
        worker.held_now[1] = generation("g2", "tokens", "paused")
        worker.woken.set()
        await asyncio.sleep(0.02)
        assert "closed g2" not in worker.told
        worker.held_now.pop()
        worker.woken.set()
        await until(lambda: "needed: ['structure']" in worker.told)

        assert not await worker.can_search("g2")
        assert await worker.can_search("g1")
        assert "closed g1" not in worker.told


@pytest.mark.parametrize("error", [Fatal("no such embedder"), Transient("the view stopped"), OSError("a bug")])
async def test_a_candidate_that_cannot_be_opened_is_tried_again_and_harms_nobody(error: Exception) -> None:
    worker = Worker(held_now=[generation("g1"), generation("g2")], broken={"g2": error})
    async with running(worker) as task:
        async with asyncio.timeout(5):
            await worker.searches.ready()
        assert not await worker.can_search("g2")
        del worker.broken["g2"]
        await until(lambda: "open g2" in worker.told)

        assert not task.done()
        assert await worker.can_search("g1")


async def test_a_candidate_that_breaks_is_closed_and_opened_again() -> None:
    worker = Worker(held_now=[generation("g1"), generation("g2")])
    async with running(worker) as task:
        await until(lambda: "open g2" in worker.told)
        worker.breaking["g2"].set()
        await until(lambda: worker.told.count("open g2") == 2)

        assert not task.done()
        assert "closed g1" not in worker.told


async def test_the_worker_ends_with_the_generation_that_answers() -> None:
    worker = Worker(held_now=[generation("g1"), generation("g2")])
    async with running(worker) as task:
        await until(lambda: "open g1" in worker.told)
        worker.breaking["g1"].set()

        with pytest.raises(ExceptionGroup):
            async with asyncio.timeout(5):
                await task
