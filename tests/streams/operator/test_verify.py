"""Carrying out verifications, on doubles."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from schemas.topics import INGEST
from streams.errors import Lost, Transient
from streams.operator.drift import Difference, Logged, Stored
from streams.operator.verify import LogSide, Subject, Verification, Verify
from tests.doubles.overdue import MemoryDriftObserver
from tests.doubles.publisher import MemoryPublisher
from tests.doubles.verifications import MemoryLogSide, MemoryTableSide, MemoryVerifications
from tests.doubles.views import MemoryViews
from tests.streams.operator.test_drift import FINE, KEY, logged

STALE = replace(FINE, contents=Stored().contents, age_s=60)
"""The live version lacks its chunks."""
LATE = Stored(latest=3, age_s=60)
"""No version is live."""


@dataclass(kw_only=True)
class Bench:
    """A verification over what both sides show at one look after the other."""

    tables: list[Stored]
    log: list[Logged] = field(default_factory=lambda: [logged()])
    behind: int = 0
    repair: bool = False
    verifications: MemoryVerifications = field(default_factory=MemoryVerifications)
    publisher: MemoryPublisher = field(default_factory=MemoryPublisher)
    views: MemoryViews = field(default_factory=MemoryViews)
    observer: MemoryDriftObserver = field(default_factory=MemoryDriftObserver)
    views_wait_s: float = 0.3

    async def kinds(self) -> list[str]:
        await self.verify()
        assert self.verifications.ended == {"v": None}
        return [each.kind for each in self.verifications.findings["v"]]

    async def verify(self) -> None:
        self.verifications.asked.append(Verification(id="v", repair=self.repair))
        log = MemoryLogSide(looks=[{KEY: each} for each in self.log], behind=self.behind)

        @asynccontextmanager
        async def open_log() -> AsyncIterator[LogSide]:
            yield log

        subject = Subject(
            generation="g1",
            open_log=open_log,
            tables=MemoryTableSide(looks=[{KEY: each} for each in self.tables]),
            views=self.views,
        )

        async def subjects() -> list[Subject]:
            return [subject]

        verify = Verify(
            verifications=self.verifications,
            subjects=subjects,
            sender=self.publisher,
            observer=self.observer,
            views_wait_s=self.views_wait_s,
            second_look_s=0,
        )
        await verify.round()


async def test_a_clean_stack_shows_no_difference() -> None:
    bench = Bench(tables=[FINE])

    assert await bench.kinds() == []
    assert bench.verifications.told["v"]["n_documents"] == 1
    assert bench.verifications.told["v"]["n_differences"] == 0


async def test_what_differs_twice_is_found_and_left_alone() -> None:
    bench = Bench(tables=[STALE])

    assert await bench.kinds() == ["chunks_missing"]
    assert bench.publisher.sent == []
    assert bench.observer.kinds == {"chunks_missing": 1}
    assert bench.observer.n_reissued == {}


async def test_what_agrees_at_the_second_look_is_not_found() -> None:
    assert await Bench(tables=[STALE, FINE]).kinds() == []


async def test_what_is_on_its_way_is_not_found() -> None:
    assert await Bench(tables=[LATE]).kinds() == ["not_live"]
    assert await Bench(tables=[LATE], behind=1).kinds() == []
    assert await Bench(tables=[replace(LATE, age_s=1)]).kinds() == []


async def test_a_delete_that_is_on_its_way_is_not_found() -> None:
    deleted = replace(FINE, latest=4, deleted=True, age_s=60)

    assert await Bench(tables=[deleted], log=[logged(accepted=4)]).kinds() == ["deleted_live"]
    assert await Bench(tables=[deleted], log=[logged(accepted=4)], behind=1).kinds() == []


async def test_what_cannot_mend_itself_is_found_on_a_busy_stack_too() -> None:
    assert await Bench(tables=[replace(STALE, age_s=1)], behind=9).kinds() == ["chunks_missing"]


async def test_with_repair_each_document_is_done_again_once() -> None:
    bench = Bench(tables=[replace(STALE, settled=False)], repair=True)

    assert await bench.kinds() == ["chunks_missing", "status_stuck"]
    [sent] = bench.publisher.sent
    assert (sent.topic, sent.key, sent.value) == (INGEST.name, b"acme/guide", b"{}")
    assert sent.headers == [("hr_reissue", b"3")]
    assert bench.verifications.reissued == {"v"}
    assert bench.observer.n_reissued == {"repair": 1}


VIEW_BEHIND = Difference(kind="view_behind", key=KEY, version=3, detail="d")


async def test_what_views_found_is_counted_and_mended_too() -> None:
    bench = Bench(tables=[FINE], repair=True)
    bench.views.workers = {"a", "b"}
    bench.views.answers["v"] = {"a": [], "b": [VIEW_BEHIND]}

    assert await bench.kinds() == []
    told = bench.verifications.told["v"]
    assert (told["n_differences"], told["kinds"]) == (1, {"view_behind": 1})
    assert (told["n_views"], told["silent_views"]) == (2, [])
    assert [(each.key, each.headers) for each in bench.publisher.sent] == [(b"acme/guide", [("hr_reissue", b"3")])]
    assert bench.views.redone == {"v"}
    assert bench.observer.kinds == {"view_behind": 1}


async def test_a_view_that_does_not_answer_in_time_is_named() -> None:
    bench = Bench(tables=[FINE])
    bench.views.workers = {"a", "b", "c"}
    bench.views.answers["v"] = {"b": []}

    await bench.kinds()

    told = bench.verifications.told["v"]
    assert (told["n_views"], told["silent_views"]) == (1, ["a", "c"])


async def test_views_that_have_gone_are_not_waited_for() -> None:
    class Going(MemoryViews):
        async def answered(self, verification: str) -> Collection[str]:
            self.workers.clear()
            return await super().answered(verification)

    bench = Bench(tables=[FINE], views=Going(workers={"a"}), views_wait_s=3_600)

    async with asyncio.timeout(10):
        await bench.kinds()

    assert bench.verifications.told["v"]["silent_views"] == ["a"]


async def test_while_kafka_is_away_it_stays_to_be_done() -> None:
    bench = Bench(tables=[STALE], repair=True)
    bench.publisher.failures[INGEST.name] = 1

    with pytest.raises(Transient):
        await bench.kinds()
    assert bench.verifications.ended == {}


async def test_what_only_people_can_give_back_ends_it_and_is_told() -> None:
    class Gone(MemoryViews):
        async def alive(self) -> Collection[str]:
            raise Lost("a table is gone; `headrace rebuild` gives it back")

    bench = Bench(tables=[FINE], views=Gone())

    await bench.verify()

    assert bench.verifications.ended == {"v": "a table is gone; `headrace rebuild` gives it back"}
