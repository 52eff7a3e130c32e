"""A worker with one part that is worse than ours, named by `WORSE_PART`, to see that the checker notices.

`WORSE_PART=fence python -m tests.faults.worse_worker --stages index`; `WORSE_PART=none` puts no worse part in.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from schemas.codec import ORIGIN_HEADER
from schemas.events import Filters
from schemas.ids import ChunkId, QueryId
from streams.__main__ import main
from streams.adapters.postgres_generation import PostgresGeneration
from streams.adapters.postgres_questions import PostgresQuestions
from streams.errors import Unprocessable
from streams.ports import Candidate, DenseRanker, Ended, Ending, Passage, PassageStore, Vectors
from streams.runtime.consumer import SafeConsumer
from streams.runtime.record import Claim, Flush, Handler, Inbound, Outbound
from streams.runtime.stage import Stage
from streams.wiring import BUILDERS, Builder, Parts
from tests.streams.runtime.stock import StockConsumer

VARIABLE: Final = "WORSE_PART"
LATE_S: Final = 5.0
FORGOTTEN_S: Final = 3_600.0
REFUSED: Final = b"refused"


@dataclass(frozen=True, kw_only=True)
class Unfenced(PostgresGeneration):
    """Writes whatever comes, newer or not."""

    async def _may_write(self, *_: Any, **__: Any) -> bool:
        return True


@dataclass(frozen=True, kw_only=True)
class Hasty(PostgresQuestions):
    """Says that a question is ended, and ends it later."""

    _late: set["asyncio.Task[Any]"] = field(default_factory=set)

    async def finish(self, query: QueryId, attempt: int, ending: Ending) -> Ended | None:
        """Promise the end at once."""
        self._late.add(asyncio.create_task(self._later(query, attempt, ending)))
        return Ended(attempt=attempt, finished_ms=time.time_ns() // 1_000_000)

    async def _later(self, query: QueryId, attempt: int, ending: Ending) -> None:
        await asyncio.sleep(LATE_S)
        await super().finish(query, attempt, ending)


@dataclass(kw_only=True)
class Remembering:
    """A ranker and a passage store that never forget what they once gave."""

    dense: DenseRanker
    store: PassageStore
    _candidates: dict[ChunkId, Candidate] = field(default_factory=dict)
    _passages: dict[ChunkId, Passage] = field(default_factory=dict)

    async def nearest(self, tenant: str, vector: Vectors, filters: Filters, limit: int) -> list[Candidate]:
        """What is near, and before it what once was."""
        found = await self.dense.nearest(tenant, vector, filters, limit)
        now = {candidate.chunk for candidate in found}
        before = [candidate for chunk, candidate in self._candidates.items() if chunk not in now]
        self._candidates.update((candidate.chunk, candidate) for candidate in found)
        return [*before, *found]

    async def passages(self, tenant: str, chunks: Sequence[ChunkId], filters: Filters) -> Mapping[ChunkId, Passage]:
        """What may be shown, and what once might."""
        self._passages.update(await self.store.passages(tenant, chunks, filters))
        return {chunk: self._passages[chunk] for chunk in chunks if chunk in self._passages}


@dataclass(frozen=True, kw_only=True)
class Refusing:
    """Refuses what says so in its text, unless it is redriven, as an intake does whose cause was mended meanwhile."""

    handler: Handler[Any]
    forget_origin: bool

    async def __call__(self, record: Inbound[Any]) -> AsyncIterator[Outbound | Flush | Claim]:
        """Do what the handler does with the rest."""
        redriven = ORIGIN_HEADER in record.headers
        if REFUSED in (record.raw or b"") and not redriven:
            raise Unprocessable("refused", "the text says so")
        if self.forget_origin:
            record = replace(record, headers={k: v for k, v in record.headers.items() if k != ORIGIN_HEADER})
        async for output in self.handler(record):
            yield output


def _changed(name: str, change: Callable[[Any, Parts], Any]) -> dict[str, Builder]:
    """A builder of that stage with a changed handler, by the name of the stage."""

    def build(parts: Parts) -> Stage:
        stage = BUILDERS[name](parts)
        return replace(stage, handler=change(stage.handler, parts))

    return {name: build}


def _unfenced(handler: Any, parts: Parts) -> Any:
    there = parts.chunks_and_vectors
    return replace(handler, generation=Unfenced(pool=there.pool, generation=there.generation, dim=there.dim))


def _hasty(handler: Any, _: Parts) -> Any:
    there = handler.questions
    return replace(handler, questions=Hasty(pool=there.pool, worker=there.worker, lease_s=there.lease_s))


def _remembering(handler: Any, _: Parts) -> Any:
    remembering: dict[str, Any] = {}

    async def search(generation: str) -> Any:
        if generation not in remembering:
            sound = await handler.handler(generation)
            memory = Remembering(dense=sound.dense, store=sound.passages)
            remembering[generation] = replace(sound, dense=memory, passages=memory)
        return remembering[generation]

    return replace(handler, handler=search)


def _endless(handler: Any, _: Parts) -> Any:
    return replace(handler, questions=replace(handler.questions, lease_s=FORGOTTEN_S))


WORSE: Final[Mapping[str, Mapping[str, Builder]]] = {
    "none": _changed("intake", lambda handler, _: Refusing(handler=handler, forget_origin=False)),
    "commit": {},
    "fence": _changed("index", _unfenced),
    "end": _changed("generate", _hasty),
    "origin": _changed("intake", lambda handler, _: Refusing(handler=handler, forget_origin=True)),
    "serving": _changed("retrieve", _remembering),
    "lease": _changed("generate", _endless),
}
"""Worse parts, and what builds the stages that have them."""


def consumer_of(worse: str) -> type[SafeConsumer]:
    """Faust's own acknowledgement commits over what is not finished."""
    return StockConsumer if worse == "commit" else SafeConsumer


if __name__ == "__main__":
    part = os.environ[VARIABLE]
    main(sys.argv[1:], consumer=consumer_of(part), builders={**BUILDERS, **WORSE[part]})
