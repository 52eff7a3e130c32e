"""What rebuilds are to the gateway, which asks for them, and to the operator stage, which carries them out."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from gateway.ports import RebuildRows
from gateway.rebuild_rows import PostgresRebuildRows
from streams.adapters.postgres_rebuilds import PostgresRebuilds
from streams.operator.rebuild import RebuildStore
from tests.doubles.rebuilds import MemoryRebuildRows

UNKNOWN = "0199f0a4-7c1e-7cc0-8a55-0d8f9c3c7b11"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Both sides. `die`: whoever carried one out is gone for long."""

    rows: RebuildRows
    store: RebuildStore
    die: Callable[[], Awaitable[None]]

    async def ask(self, sink: str = "pgvector") -> str:
        asked = await self.rows.ask("g1", sink=sink, asked_by="operations")
        assert asked is not None
        return str(asked["id"])


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "double":
        memory = MemoryRebuildRows()

        async def nothing() -> None: ...

        return Bench(rows=memory, store=memory, die=nothing)
    pool = request.getfixturevalue("pool")

    async def die() -> None:
        await pool.execute("UPDATE rebuilds SET lease_until = now() - interval '1 second' WHERE state = 'running'")

    return Bench(rows=PostgresRebuildRows(pool=pool), store=PostgresRebuilds(pool=pool), die=die)


async def test_one_of_a_sink_is_under_way_at_a_time(bench: Bench) -> None:
    id = await bench.ask()

    assert await bench.rows.ask("g1", sink="pgvector", asked_by="operations") is None
    other = await bench.ask("tantivy")
    assert [row["id"] for row in await bench.rows.latest(10)] == [other, id]
    assert [row["id"] for row in await bench.rows.latest(1)] == [other]
    assert await bench.rows.find(UNKNOWN) is None


async def test_the_one_that_has_waited_longest_is_carried_out_first(bench: Bench) -> None:
    first, second = await bench.ask("tantivy"), await bench.ask("pgvector")

    async with bench.store.next() as one, bench.store.next() as two, bench.store.next() as none:
        assert one is not None
        assert two is not None
        assert (one.id, one.sink, two.id, none) == (first, "tantivy", second, None)
        assert (one.generation, one.next_offsets, one.progress) == ("g1", {}, {})
    found = await bench.rows.find(first)
    assert found is not None
    assert (found["state"], found["began_at"] is None) == ("running", False)


async def test_what_is_told_is_shown_and_where_it_was_is_known_to_the_next(bench: Bench) -> None:
    id = await bench.ask()
    async with bench.store.next() as asked:
        assert asked is not None
        await bench.store.progress(id, {"n_documents": 1, "n_offsets": 9}, {0: 3, 5: 1})
        await bench.store.progress(id, {"n_documents": 2}, {0: 4})
    await bench.die()

    async with bench.store.next() as again:
        assert again is not None
        assert (again.id, dict(again.next_offsets)) == (id, {0: 4, 5: 1})
        assert again.progress == {"n_documents": 2, "n_offsets": 9}
        await bench.store.finish(id, {"n_incomplete": 0})

    found = await bench.rows.find(id)
    assert found is not None
    assert (found["state"], found["why"], found["finished_at"] is None) == ("finished", None, False)
    assert found["progress"] == {"n_documents": 2, "n_offsets": 9, "n_incomplete": 0}
    assert await bench.ask() != id


async def test_one_that_raises_is_given_back_at_once(bench: Bench) -> None:
    id = await bench.ask()
    with pytest.raises(KeyError):
        async with bench.store.next():
            raise KeyError("away")

    async with bench.store.next() as again:
        assert again is not None
        assert again.id == id


async def test_a_failed_one_says_why_and_is_not_changed_any_more(bench: Bench) -> None:
    id = await bench.ask()
    async with bench.store.next():
        await bench.store.finish(id, {}, why="the topic is gone")
        await bench.store.finish(id, {"n_documents": 7})

    found = await bench.rows.find(id)
    assert found is not None
    assert (found["state"], found["why"], found["progress"]) == ("failed", "the topic is gone", {})
    async with bench.store.next() as none:
        assert none is None
