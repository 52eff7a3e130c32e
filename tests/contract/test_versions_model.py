"""Versions of one document under redeliveries, two partitions, rejects and redrives, in both stores.

What is checked is what must hold whatever happens, so that it is no second copy of the rules: versions rise by one, no
two submissions have the same one, and the same submission always has the same.
"""

import asyncio
from collections.abc import Awaitable, Iterator
from functools import partial
from typing import TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backbone.postgres import open_pool
from backbone.settings import PostgresSettings
from schemas.ids import DocumentKey, new_query_id
from streams.adapters.postgres_documents import PostgresDocuments
from streams.ports import DocumentStore
from tests.contract.factories import key_of, origin
from tests.doubles.document_store import MemoryDocuments
from tests.examples import try_out

T = TypeVar("T")
Place = tuple[int, int]
"""Partition and offset of a submission."""


class VersionsMachine(RuleBasedStateMachine):
    """One document, whose submissions come to intake by two partitions, each from any place again after a rebalance."""

    key: DocumentKey

    def __init__(self, documents: DocumentStore, runner: asyncio.Runner) -> None:
        super().__init__()
        self.documents, self.runner = documents, runner
        self.ends = [0, 0]
        self.read = [0, 0]
        self.versions: dict[Place, int] = {}
        self.given_up: dict[Place, int] = {}
        self.reached: dict[int, int] = {}
        self.latest = 0

    def do(self, call: Awaitable[T]) -> T:
        async def wait() -> T:
            return await call

        return self.runner.run(wait())

    @initialize()
    def begin(self) -> None:
        self.key = key_of(str(new_query_id()))

    @rule(partition=st.integers(0, 1), gap=st.sampled_from([1, 1, 3]))
    def submit(self, partition: int, gap: int) -> None:
        self.ends[partition] += gap

    @rule(partition=st.integers(0, 1), back=st.integers(1, 4))
    def rebalance(self, partition: int, back: int) -> None:
        self.read[partition] = max(0, self.read[partition] - back)

    def next_of(self, partition: int) -> Place:
        offset = self.read[partition]
        self.read[partition] += 1
        return partition, offset

    @precondition(lambda self: any(read < end for read, end in zip(self.read, self.ends, strict=True)))
    @rule(data=st.data(), deleted=st.booleans())
    def accept(self, data: st.DataObject, deleted: bool) -> None:
        behind = [n for n in (0, 1) if self.read[n] < self.ends[n]]
        place = self.next_of(data.draw(st.sampled_from(behind)))
        self.check(place, self.assign(place, deleted=deleted))

    @precondition(lambda self: self.latest and any(read < end for read, end in zip(self.read, self.ends, strict=True)))
    @rule(data=st.data(), stale=st.booleans())
    def patch(self, data: st.DataObject, stale: bool) -> None:
        behind = [n for n in (0, 1) if self.read[n] < self.ends[n]]
        place = self.next_of(data.draw(st.sampled_from(behind)))
        outcome, version = self.assign(place, base=self.latest + 1 if stale else self.latest)
        if outcome == "moved":
            assert stale
            assert version == self.latest
            self.read[place[0]] -= 1
        else:
            assert not stale or outcome != "fresh"
            self.check(place, (outcome, version))

    @precondition(lambda self: any(read < end for read, end in zip(self.read, self.ends, strict=True)))
    @rule(data=st.data())
    def reject(self, data: st.DataObject) -> None:
        behind = [n for n in (0, 1) if self.read[n] < self.ends[n]]
        partition, offset = self.next_of(data.draw(st.sampled_from(behind)))
        told = self.do(
            self.documents.reject(self.key, origin(offset, partition=partition), reason="not_json", message="No.")
        )
        if offset > self.reached.get(partition, -1):
            # it is the last that is known of its partition, and became no version
            assert told == self.latest
            self.reached[partition] = offset
            self.given_up[partition, offset] = self.latest
        elif (partition, offset) not in self.given_up and (partition, offset) not in self.versions:
            assert told is None

    @precondition(lambda self: self.given_up)
    @rule(data=st.data())
    def redrive(self, data: st.DataObject) -> None:
        place = data.draw(st.sampled_from(sorted(self.given_up)))
        outcome, version = self.assign(place, redriven=True)
        went_on = self.given_up[place] != self.latest or place[1] < self.reached.get(place[0], -1)
        if place in self.versions:
            assert outcome == ("again" if place[1] == self.reached[place[0]] else "overtaken")
        else:
            assert outcome == ("overtaken" if went_on else "fresh")
        self.check(place, (outcome, version))

    def assign(
        self, place: Place, *, deleted: bool = False, redriven: bool = False, base: int | None = None
    ) -> tuple[str, int]:
        partition, offset = place
        there = origin(offset, partition=partition)
        given = self.do(
            self.documents.assign(self.key, there, deleted=deleted, attributes={}, redriven=redriven, base=base)
        )
        return given.outcome, given.version

    def check(self, place: Place, given: tuple[str, int]) -> None:
        outcome, version = given
        if outcome == "fresh":
            assert version == self.latest + 1
            assert place not in self.versions
            self.latest, self.versions[place] = version, version
            self.reached[place[0]] = max(place[1], self.reached.get(place[0], -1))
        elif outcome == "again":
            assert version == self.versions[place]
        elif outcome == "redelivered":
            assert place[1] < self.reached[place[0]]
        else:
            assert outcome == "overtaken"
            assert version == self.latest

    @invariant()
    def the_latest_is_the_last_that_was_given(self) -> None:
        if hasattr(self, "key"):
            assert (self.do(self.documents.latest_version(self.key)) or 0) == self.latest
            latest = self.do(self.documents.latest(self.key))
            assert (latest.version if latest else 0) == self.latest
            if latest is not None and latest.submission is not None:
                assert self.versions[latest.submission.partition, latest.submission.offset] == self.latest


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def documents(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Iterator[DocumentStore]:
    if request.param == "double":
        yield MemoryDocuments()
        return
    settings = PostgresSettings.model_validate({"postgres_dsn": request.getfixturevalue("dsn")})
    pool = runner.run(open_pool(settings))
    yield PostgresDocuments(pool=pool)
    runner.run(pool.close())


def test_each_submission_has_one_version_whatever_comes_again(documents: DocumentStore, runner: asyncio.Runner) -> None:
    try_out(partial(VersionsMachine, documents, runner), 60, steps=40)
