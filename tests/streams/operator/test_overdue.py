"""Versions that are overdue, and the walk through the ingest lane, on doubles."""

from dataclasses import dataclass, field

import pytest

from schemas.topics import INGEST
from streams.errors import Transient
from streams.operator.overdue import Coverage, MendOverdue, Walk
from tests.contract.factories import key_of
from tests.doubles.clock import FrozenClock
from tests.doubles.overdue import Known, MemoryDriftObserver, MemoryHop, MemoryOverdue
from tests.doubles.publisher import MemoryPublisher

GUIDE, OTHER = key_of("guide"), key_of("other")
BEGIN_MS = 10**12
AFTER_S = 600.0


@dataclass(kw_only=True)
class Bench:
    """Rounds over two stages and what the tables know."""

    clock: FrozenClock = field(default_factory=lambda: FrozenClock(ms=BEGIN_MS))
    hops: list[MemoryHop] = field(default_factory=lambda: [MemoryHop(), MemoryHop()])
    publisher: MemoryPublisher = field(default_factory=MemoryPublisher)
    observer: MemoryDriftObserver = field(default_factory=MemoryDriftObserver)
    at_once_max: int = 10

    def __post_init__(self) -> None:
        self.tables = MemoryOverdue(clock=self.clock)
        self.mend = MendOverdue(
            generation="g1",
            documents=self.tables,
            walk=Walk(hops=self.hops, clock=self.clock),
            sender=self.publisher,
            clock=self.clock,
            observer=self.observer,
            after_s=AFTER_S,
            at_once_max=self.at_once_max,
        )

    async def sent(self) -> list[tuple[bytes | None, bytes | None]]:
        """Do a round; return what it has sent, keys with versions."""
        before = len(self.publisher.sent)
        await self.mend.round()
        sent = self.publisher.sent[before:]
        assert all((each.topic, each.value) == (INGEST.name, b"{}") for each in sent)
        return [(each.key, dict(each.headers)["hr_reissue"]) for each in sent]


async def test_what_is_overdue_is_reissued_once_a_pause_and_counted() -> None:
    bench = Bench()
    bench.tables.documents[GUIDE] = Known(latest=3)

    assert await bench.sent() == [(b"acme/guide", b"3")]
    assert await bench.sent() == []
    bench.clock.ms += 601_000
    assert await bench.sent() == [(b"acme/guide", b"3")]

    bench.tables.documents[GUIDE].live = (3, False)
    assert await bench.sent() == []
    assert (bench.observer.n_reissued, bench.observer.n_mended) == ({"overdue": 2}, 1)
    assert bench.observer.coverage == Coverage(n_documents=1, n_covered=1, n_failed=0)


async def test_a_round_sends_so_many_and_the_next_one_goes_on() -> None:
    bench = Bench(at_once_max=1)
    bench.tables.documents |= {GUIDE: Known(latest=1), OTHER: Known(latest=1, accepted_ms=1)}

    assert await bench.sent() == [(b"acme/guide", b"1")]
    assert await bench.sent() == [(b"acme/other", b"1")]


@pytest.mark.parametrize("stage", [0, 1])
async def test_nothing_is_overdue_while_a_stage_has_work_from_before(stage: int) -> None:
    bench = Bench()
    bench.tables.documents[GUIDE] = Known(latest=1)
    bench.hops[stage].end = 100_000
    bench.hops[stage].done = 99_999

    for _ in range(20):
        assert await bench.sent() == []
        bench.clock.ms += 600_000
    bench.hops[stage].done = 100_000

    assert await bench.sent() == [(b"acme/guide", b"1")]


async def test_steady_traffic_does_not_hold_the_walk_up() -> None:
    bench = Bench()
    bench.tables.documents[GUIDE] = Known(latest=1)

    async def round_amid_traffic() -> list[tuple[bytes | None, bytes | None]]:
        for hop in bench.hops:
            hop.end, hop.done = hop.end + 10, hop.end
        return await bench.sent()

    rounds = [await round_amid_traffic() for _ in range(5)]

    assert [each for each in rounds if each] == [[(b"acme/guide", b"1")]]


async def test_what_was_accepted_since_the_walk_began_is_not_overdue_yet() -> None:
    bench = Bench()
    bench.hops[1].end = 1
    await bench.sent()
    bench.tables.documents[GUIDE] = Known(latest=1, accepted_ms=BEGIN_MS + 1)
    bench.clock.ms += 3_600_000
    bench.hops[1].done = 1

    assert await bench.sent() == []
    assert await bench.sent() == [(b"acme/guide", b"1")]


async def test_while_kafka_is_away_it_is_delayed() -> None:
    bench = Bench()
    bench.tables.documents[GUIDE] = Known(latest=1)
    bench.publisher.failures[INGEST.name] = 1

    with pytest.raises(Transient):
        await bench.sent()
    assert bench.observer.n_reissued == {}

    bench.clock.ms += 601_000
    assert await bench.sent() == [(b"acme/guide", b"1")]
