"""What every `KeyRows` does."""

import asyncio
from typing import Any

import pytest

from gateway.key_rows import PostgresKeyRows
from gateway.ports import KeyRows
from tests.doubles.gateway import MemoryKeyRows

ROUTE = "POST /v1/ingest"


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def keys(request: pytest.FixtureRequest) -> KeyRows:
    return MemoryKeyRows() if request.param == "double" else PostgresKeyRows(pool=request.getfixturevalue("pool"))


async def test_a_key_is_remembered_as_it_was_first_used(keys: KeyRows) -> None:
    first = await keys.remember("acme", "k1", route=ROUTE, body_sha256=b"one")
    again = await keys.remember("acme", "k1", route="POST /v1/query", body_sha256=b"two")
    foreign = await keys.remember("globex", "k1", route=ROUTE, body_sha256=b"three")

    assert (first.route, first.body_sha256) == (ROUTE, b"one")
    assert first.first_us > 1_700_000_000_000_000
    assert again == first
    assert foreign.body_sha256 == b"three"


async def test_keys_that_are_used_at_once_are_one(keys: KeyRows) -> None:
    rows = await asyncio.gather(
        *(keys.remember("acme", "k1", route=ROUTE, body_sha256=str(n).encode()) for n in range(5))
    )

    assert len({(row.body_sha256, row.first_us) for row in rows}) == 1


async def test_a_response_is_kept_for_those_who_come_later(keys: KeyRows) -> None:
    await keys.remember("acme", "k1", route=ROUTE, body_sha256=b"one")
    await keys.remember("globex", "k1", route=ROUTE, body_sha256=b"one")

    async with keys.holding("acme", "k1") as held:
        before = held.response
        await held.keep({"documents": [1]})
        during = held.response
    async with keys.holding("acme", "k1") as held:
        after = held.response
    async with keys.holding("globex", "k1") as held:
        foreign = held.response

    assert (before, during, after, foreign) == (None, {"documents": [1]}, {"documents": [1]}, None)


async def test_one_answers_while_the_others_wait(keys: KeyRows) -> None:
    await keys.remember("acme", "k1", route=ROUTE, body_sha256=b"one")
    n_answered = 0

    async def answer() -> Any:
        nonlocal n_answered
        async with keys.holding("acme", "k1") as held:
            if held.response is None:
                n_answered += 1
                await asyncio.sleep(0)
                await held.keep([n_answered])
            return held.response

    assert await asyncio.gather(*(answer() for _ in range(5))) == [[1]] * 5


async def test_who_fails_leaves_the_key_to_the_next(keys: KeyRows) -> None:
    await keys.remember("acme", "k1", route=ROUTE, body_sha256=b"one")

    with pytest.raises(RuntimeError):
        async with keys.holding("acme", "k1"):
            raise RuntimeError("Kafka is away")
    again = await keys.remember("acme", "k1", route=ROUTE, body_sha256=b"two")
    async with keys.holding("acme", "k1") as held:
        assert (held.response, again.body_sha256) == (None, b"one")
