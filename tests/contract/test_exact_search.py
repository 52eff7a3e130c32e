"""When pgvector is searched exactly, and when by its index."""

from typing import Any

import asyncpg
import pytest

from schemas.events import Filters
from tests.contract.factories import EAST, embedded, key_of, vector
from tests.contract.fence import postgres_fence


@pytest.mark.integration
@pytest.mark.parametrize(("n_all", "n_few"), [(0, 2_000), (20_000, 2_000), (250_000, 6_000), (10_000_000, 10_000)])
async def test_pgvector_searches_the_more_rows_exactly_the_larger_the_table_is(
    pool: "asyncpg.Pool[Any]", n_all: int, n_few: int
) -> None:
    fence = postgres_fence(pool)
    for name in ("large", "only_indexed"):
        await fence.generation.replace(embedded(1, {name: EAST}, key=key_of(name)))
    # exact search reads the tables of live versions, the index does not
    await pool.execute("DELETE FROM live WHERE document = 'only_indexed'")
    await pool.execute("UPDATE pg_class SET reltuples = $1 WHERE oid = 'chunks_g1'::regclass", n_all)

    async def n_found(n_kept: int) -> int:
        await pool.execute("UPDATE live SET n_chunks = $1", n_kept)
        return len(await fence.ranker.nearest("acme", vector(EAST), Filters(), 10))

    assert [await n_found(n_few), await n_found(n_few + 1)] == [1, 2]
