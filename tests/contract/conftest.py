"""Fixtures of the contract suites: each port once as its double and once for real."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import asyncpg
import pytest

from backbone.postgres import open_pool
from backbone.settings import OpensearchSettings, PostgresSettings
from schemas.postgres.generation import create_generation, point_alias
from streams.adapters.opensearch import open_client
from streams.adapters.opensearch_index import OpensearchIndex
from tests.contract.fence import Fence, memory_fence, postgres_fence
from tests.contract.lexical import NOW_MS
from tests.doubles.clock import FrozenClock
from tests.parts import Parts, Running


async def _database(postgres: Callable[[], Awaitable[str]]) -> str:
    dsn = await postgres()
    connection = await asyncpg.connect(dsn)
    await create_generation(connection, "g1", "structure", "test", 4)
    await point_alias(connection, "live", "g1")
    await connection.close()
    return dsn


@pytest.fixture(scope="module")
def dsn(postgres: Callable[[], Awaitable[str]]) -> str:
    """A migrated database with generation g1 of four dimensions."""
    return asyncio.run(_database(postgres))


@pytest.fixture
async def pool(dsn: str) -> "AsyncIterator[asyncpg.Pool[Any]]":
    """Connections to the database, whose documents and questions are gone."""
    pool = await open_pool(PostgresSettings.model_validate({"postgres_dsn": dsn}))
    await pool.execute(
        "TRUNCATE documents, live, sunk, queries, idempotency_keys, gateways, evals, chunks_g1, dead_letters, holders, "
        "rebuilds, verifications, findings, lexical_views, view_answers, reissues, gates, gate_results, shadows"
    )
    yield pool
    await pool.close()


@pytest.fixture
async def generations_pool(pool: "asyncpg.Pool[Any]") -> "AsyncIterator[asyncpg.Pool[Any]]":
    """The same connections, for tests that make generations and let them answer: there is g1 alone before and after."""
    await _g1_alone(pool)
    yield pool
    await _g1_alone(pool)


async def _g1_alone(pool: "asyncpg.Pool[Any]") -> None:
    await pool.execute("DELETE FROM switches")
    await pool.execute(
        "INSERT INTO generations (generation, chunker, embedder, dim) VALUES ('g1', 'structure', 'test', 4) "
        "ON CONFLICT (generation) DO UPDATE SET state = 'following', why = NULL, chunker = 'structure', dim = 4"
    )
    await pool.execute(
        "INSERT INTO aliases (alias, generation) VALUES ('live', 'g1') "
        "ON CONFLICT (alias) DO UPDATE SET generation = 'g1'"
    )
    for name in await pool.fetch("DELETE FROM generations WHERE generation <> 'g1' RETURNING generation"):
        await pool.execute(f"DROP TABLE IF EXISTS chunks_{name['generation']}")


@pytest.fixture(
    params=[
        "double",
        pytest.param("real", marks=pytest.mark.integration),
        pytest.param("real, by the vector index", marks=pytest.mark.integration),
    ]
)
def fence(request: pytest.FixtureRequest) -> Fence:
    """The stores of the fence, empty."""
    if request.param == "double":
        return memory_fence()
    pool = request.getfixturevalue("pool")
    return postgres_fence(pool, exact_max_rows=None if request.param == "real" else 0)


@pytest.fixture(scope="package")
def opensearch_process(parts: Parts) -> Iterator[Running[str]]:
    """A real OpenSearch for these suites, which leaves its memory to those that come after them."""
    with parts.opensearch() as running:
        yield running


@pytest.fixture(scope="package")
def opensearch(opensearch_process: Running[str]) -> str:
    """URL of that OpenSearch."""
    return opensearch_process.where


@pytest.fixture
async def opensearch_index(opensearch: str) -> AsyncIterator[OpensearchIndex]:
    """A generation of four dimensions in OpenSearch, empty."""
    async with open_client(OpensearchSettings.model_validate({"opensearch_url": opensearch})) as client:
        index = OpensearchIndex(client=client, generation="g1", dim=4, clock=FrozenClock(ms=NOW_MS))
        await index.drop()
        await index.ensure()
        yield index
