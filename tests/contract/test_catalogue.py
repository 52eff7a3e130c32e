"""What every `Catalogue` does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from streams.adapters.postgres_catalogue import PostgresCatalogue
from streams.errors import Fatal
from streams.ports import Catalogue, Generation
from tests.doubles.catalogue import MemoryCatalogue

STATES = ("asked", "failed", "following", "paused", "dropping", "dropped")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A catalogue; `add` puts a younger generation beside those that there are, `point` lets one answer, None: none."""

    catalogue: Catalogue
    add: Callable[[Generation], Awaitable[None]]
    point: Callable[[str | None], Awaitable[None]]


def in_memory() -> Bench:
    catalogue = MemoryCatalogue()

    async def add(generation: Generation) -> None:
        catalogue.rows.append(generation)

    async def point(name: str | None) -> None:
        catalogue.answers = name

    return Bench(catalogue=catalogue, add=add, point=point)


@pytest.fixture
async def no_generations(generations_pool: "asyncpg.Pool[Any]") -> "asyncpg.Pool[Any]":
    """Connections to a database without a generation."""
    await generations_pool.execute("DELETE FROM aliases")
    await generations_pool.execute("DELETE FROM generations")
    return generations_pool


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "double":
        return in_memory()
    pool = request.getfixturevalue("no_generations")

    async def add(generation: Generation) -> None:
        await pool.execute(
            "INSERT INTO generations (generation, chunker, embedder, dim, state, created_at) "
            "VALUES ($1, $2, $3, nullif($4, 0), $5, clock_timestamp())",
            generation.name,
            generation.chunker,
            generation.embedder,
            generation.dim,
            generation.state,
        )

    async def point(name: str | None) -> None:
        await pool.execute("DELETE FROM aliases")
        if name is not None:
            await pool.execute("INSERT INTO aliases (alias, generation) VALUES ('live', $1)", name)

    return Bench(catalogue=PostgresCatalogue(pool=pool, alias="live"), add=add, point=point)


def generation(name: str, state: str = "following", dim: int = 4) -> Generation:
    return Generation(name=name, chunker="tokens", embedder="e", dim=dim, state=state)


async def test_without_an_alias_nothing_answers_and_that_cannot_be_waited_out(bench: Bench) -> None:
    await bench.add(generation("g1"))

    with pytest.raises(Fatal, match="no index generation is named by the alias 'live'; run headrace init"):
        await bench.catalogue.serving()


async def test_the_one_that_answers_is_the_one_that_the_alias_names(bench: Bench) -> None:
    for name in ("g1", "g2"):
        await bench.add(generation(name))
    await bench.point("g1")
    assert await bench.catalogue.serving() == "g1"

    await bench.point("g2")
    assert await bench.catalogue.serving() == "g2"


async def test_those_that_hold_documents_come_in_the_order_in_which_they_were_asked_for(bench: Bench) -> None:
    for state in STATES:
        await bench.add(generation(f"z_{state}", state))
    await bench.add(generation("a"))

    held = await bench.catalogue.held()
    assert held == [generation("z_following"), generation("z_paused", "paused"), generation("a")]


@pytest.mark.parametrize("state", STATES)
async def test_one_is_found_in_any_state(bench: Bench, state: str) -> None:
    await bench.add(generation("g1", state))

    assert await bench.catalogue.find("g1") == generation("g1", state)


async def test_one_that_nobody_has_tried_yet_has_no_dimension(bench: Bench) -> None:
    await bench.add(generation("g1", "asked", dim=0))

    assert await bench.catalogue.find("g1") == generation("g1", "asked", dim=0)


async def test_what_there_is_not_is_not_found(bench: Bench) -> None:
    assert await bench.catalogue.held() == []
    assert await bench.catalogue.find("g1") is None
