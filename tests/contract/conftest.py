"""Fixtures of the contract suites: each port once as its double and once for real."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
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
        "TRUNCATE documents, live, queries, idempotency_keys, gateways, evals, chunks_g1, dead_letters, holders, "
        "verifications, findings, lexical_views, view_answers, reissues, gates, gate_results"
    )
    yield pool
    await pool.close()


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
    return postgres_fence(pool, exact_max_rows=2_000 if request.param == "real" else 0)


@pytest.fixture
async def opensearch_index(opensearch: str) -> AsyncIterator[OpensearchIndex]:
    """A generation of four dimensions in OpenSearch, empty."""
    async with open_client(OpensearchSettings.model_validate({"opensearch_url": opensearch})) as client:
        index = OpensearchIndex(client=client, generation="g1", dim=4, clock=FrozenClock(ms=NOW_MS))
        await index.drop()
        await index.ensure()
        yield index
