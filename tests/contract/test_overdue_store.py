"""What every `OverdueStore` does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import pytest

from schemas.ids import DocumentKey
from streams.adapters.postgres_overdue import PostgresOverdue
from streams.operator.overdue import Coverage, OverdueStore
from tests.contract.factories import key_of
from tests.contract.letters import give_up
from tests.doubles.clock import FrozenClock
from tests.doubles.overdue import Known, MemoryOverdue

AFTER_S = 600.0
GUIDE, OTHER, THIRD = key_of("guide"), key_of("other"), key_of("third")
SERVED = Known(latest=3, live=(3, False))
NOT_LIVE = Known(latest=3)
BEHIND = Known(latest=3, live=(2, False))
FAILED = Known(latest=3, live=(2, False), failed=True)
GIVEN_UP = Known(latest=3, live=(2, False), given_up=True)
DELETED = Known(latest=3, deleted=True, live=(3, True))
NEVER_SERVED = Known(latest=3, deleted=True)


@dataclass(frozen=True, kw_only=True)
class Tables:
    """A store, how documents get there (now, or so many seconds ago), and how time passes."""

    store: OverdueStore
    put: Callable[[DocumentKey, Known, float], Awaitable[None]]
    wait: Callable[[float], Awaitable[None]]

    async def take(self, limit: int = 10) -> list[tuple[str, int, int]]:
        """Return id, version and count of what is overdue."""
        taken = await self.store.take(older_than_s=AFTER_S, pause_s=AFTER_S, limit=limit)
        return [(each.key.document, each.version, each.n) for each in taken]


def in_memory() -> Tables:
    clock = FrozenClock(ms=10**12)
    store = MemoryOverdue(clock=clock)

    async def put(key: DocumentKey, known: Known, age_s: float) -> None:
        store.documents[key] = replace(known, accepted_ms=clock.ms - round(age_s * 1000))

    async def wait(seconds: float) -> None:
        clock.ms += round(seconds * 1000)

    return Tables(store=store, put=put, wait=wait)


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def tables(request: pytest.FixtureRequest) -> Tables:
    if request.param == "double":
        return in_memory()
    pool = request.getfixturevalue("pool")

    async def put(key: DocumentKey, known: Known, age_s: float) -> None:
        await pool.execute(
            "INSERT INTO documents (tenant, document, latest_version, deleted, status, status_version, accepted_at) "
            "VALUES ($1, $2, $3, $4, $5, $3, now() - make_interval(secs => $6)) ON CONFLICT (tenant, document) "
            "DO UPDATE SET latest_version = $3, deleted = $4, status = $5, status_version = $3",
            *(key.tenant, key.document, known.latest, known.deleted, "failed" if known.failed else "indexed", age_s),
        )
        await pool.execute("DELETE FROM live WHERE (tenant, document) = ($1, $2)", key.tenant, key.document)
        await pool.execute("DELETE FROM chunks_g1 WHERE (tenant, document) = ($1, $2)", key.tenant, key.document)
        if known.live is not None:
            await pool.execute(
                "INSERT INTO live (generation, tenant, document, version, deleted, n_chunks) "
                "VALUES ('g1', $1, $2, $3, $4, 0)",
                *(key.tenant, key.document, *known.live),
            )
        if known.given_up:
            await give_up(pool, 7, key.document, known.latest, "rag.embed.g1")
        if known.left:
            await pool.execute(
                "INSERT INTO chunks_g1 (chunk_id, tenant, document, ordinal, text, start_char, end_char, headings, "
                "n_tokens, sentences, sentence_vectors, collection, metadata, embedding) "
                "VALUES ('left', $1, $2, 0, 't', 0, 1, '[]', 1, '[]', '', 'c', '{}', '[1,0,0,0]')",
                *(key.tenant, key.document),
            )

    async def wait(seconds: float) -> None:
        for column, table in (("accepted_at", "documents"), ("last_at", "reissues")):
            await pool.execute(f"UPDATE {table} SET {column} = {column} - make_interval(secs => $1)", seconds)

    return Tables(store=PostgresOverdue(pool=pool, generation="g1"), put=put, wait=wait)


@pytest.mark.parametrize(
    "known",
    [
        NOT_LIVE,
        BEHIND,
        Known(latest=3, live=(3, True)),
        Known(latest=3, deleted=True, live=(2, False)),
        Known(latest=3, deleted=True, live=(3, False)),
        Known(latest=3, deleted=True, live=(3, True), left=True),
    ],
)
async def test_what_is_not_served_is_overdue_after_its_time(tables: Tables, known: Known) -> None:
    await tables.put(GUIDE, known, AFTER_S - 60)
    assert await tables.take() == []

    await tables.wait(120)

    assert await tables.take() == [("guide", 3, 1)]


@pytest.mark.parametrize(
    "known", [SERVED, FAILED, GIVEN_UP, DELETED, NEVER_SERVED, Known(latest=2, live=(3, False)), Known(latest=0)]
)
async def test_what_is_served_failed_or_never_accepted_is_not_overdue(tables: Tables, known: Known) -> None:
    await tables.put(GUIDE, known, 10 * AFTER_S)

    assert await tables.take() == []


async def test_each_pause_is_twice_as_long_as_the_one_before(tables: Tables) -> None:
    await tables.put(GUIDE, NOT_LIVE, 2 * AFTER_S)
    assert await tables.take() == [("guide", 3, 1)]

    for n, pause_s in ((2, AFTER_S), (3, 2 * AFTER_S), (4, 4 * AFTER_S)):
        await tables.wait(pause_s - 60)
        assert await tables.take() == []
        await tables.wait(120)
        assert await tables.take() == [("guide", 3, n)]


async def test_a_day_is_the_longest_pause(tables: Tables) -> None:
    await tables.put(GUIDE, NOT_LIVE, 2 * AFTER_S)
    for n in range(1, 40):
        assert await tables.take() == [("guide", 3, n)]
        await tables.wait(86_460)


async def test_a_newer_version_is_counted_from_the_beginning(tables: Tables) -> None:
    await tables.put(GUIDE, NOT_LIVE, 2 * AFTER_S)
    await tables.take()
    await tables.put(GUIDE, Known(latest=4), 2 * AFTER_S)

    assert await tables.take() == [("guide", 4, 1)]


async def test_those_that_were_accepted_first_come_first_and_the_rest_later(tables: Tables) -> None:
    for n, key in enumerate((OTHER, THIRD, GUIDE)):
        await tables.put(key, NOT_LIVE, 10 * AFTER_S - n)

    assert sorted(await tables.take(limit=2)) == [("other", 3, 1), ("third", 3, 1)]
    assert await tables.take(limit=2) == [("guide", 3, 1)]
    assert await tables.take(limit=2) == []


async def test_those_that_are_served_at_last_are_counted_once_and_forgotten(tables: Tables) -> None:
    for key in (GUIDE, OTHER, THIRD):
        await tables.put(key, NOT_LIVE, 2 * AFTER_S)
    assert len(await tables.take()) == 3
    assert await tables.store.settle() == 0
    await tables.put(GUIDE, SERVED, 0)
    await tables.put(OTHER, FAILED, 0)
    await tables.put(THIRD, Known(latest=4, live=(4, False)), 0)

    assert await tables.store.settle() == 1
    assert await tables.store.settle() == 0
    for key in (GUIDE, OTHER, THIRD):
        await tables.put(key, NOT_LIVE, 2 * AFTER_S)
    assert sorted(await tables.take()) == [("guide", 3, 1), ("other", 3, 1), ("third", 3, 1)]


async def test_coverage_counts_what_is_served_in_its_latest_version(tables: Tables) -> None:
    assert await tables.store.coverage() == Coverage(n_documents=0, n_covered=0, n_failed=0)
    for name, known in (("a", SERVED), ("b", DELETED), ("c", BEHIND), ("d", FAILED), ("e", NOT_LIVE), ("f", GIVEN_UP)):
        await tables.put(key_of(name), known, 0)

    assert await tables.store.coverage() == Coverage(n_documents=6, n_covered=2, n_failed=2)


async def test_what_was_taken_counts_as_overdue_until_it_is_settled(tables: Tables) -> None:
    await tables.put(GUIDE, NOT_LIVE, 2 * AFTER_S)
    await tables.put(OTHER, NOT_LIVE, 2 * AFTER_S)
    await tables.put(THIRD, NOT_LIVE, 0)
    await tables.take()
    assert (await tables.store.coverage()).n_overdue == 2

    await tables.put(GUIDE, SERVED, 2 * AFTER_S)
    await tables.store.settle()

    assert (await tables.store.coverage()).n_overdue == 1
