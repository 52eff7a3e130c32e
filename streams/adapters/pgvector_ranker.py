"""Nearest chunks by vector in pgvector."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from schemas.events import Filters
from schemas.ids import ChunkId
from schemas.postgres.generation import chunks_table
from streams.adapters.postgres import Connection, Pool, transaction
from streams.adapters.postgres_filters import condition
from streams.ports import Candidate, Vectors

EF_SEARCH_MIN: Final = 100
EF_SEARCH_MAX: Final = 1000
"""pgvector's own bound."""

EXACT_MIN: Final = 2_000
EXACT_MAX: Final = 10_000
EXACT_PER_ROOT: Final = 12
"""Exact search takes 7 us for each row that a filter keeps; the index takes 12 ms where a filter keeps one row of ten,
and 97 ms where it keeps one of 100, for it passes over others (200,000 rows of 384, `python -m tests.bench.vectors`).
So both take as long where the rows that are kept are 12 times the square root of all: some 2,700 of 50,000, where both
took 14 ms for 2,500. Below that exact search is faster, and forgets nothing. The least and the most keep what it
costs, and what counting costs, within bounds."""

# Plans are made for the parameters at hand: a plan for "any filter" would be wrong for most.
# An iterative scan goes on until enough rows passed the filter; the order is put right afterwards.
_SETTINGS: Final = """
SET LOCAL plan_cache_mode = force_custom_plan;
SET LOCAL hnsw.iterative_scan = relaxed_order;
SET LOCAL hnsw.ef_search = {ef_search};
"""

# Documents are counted, not chunks: their rows are fewer and narrow. How many rows there are in all is an estimate.
_KEEPS_FEW: Final = f"""
WITH few AS MATERIALIZED (
    SELECT coalesce($2::bigint, greatest({EXACT_MIN}, least({EXACT_MAX},
        {EXACT_PER_ROOT} * sqrt(greatest(reltuples, 0))))::bigint) AS n
    FROM pg_class WHERE oid = '{{table}}'::regclass
)
SELECT coalesce(sum(n_chunks), 0) <= (SELECT n FROM few)
FROM (
    SELECT n_chunks FROM live l WHERE generation = $1 AND NOT deleted AND n_chunks > 0 AND {{condition}}
    LIMIT (SELECT n + 1 FROM few)
) kept
"""

_EXACT: Final = """
WITH kept AS MATERIALIZED (
    SELECT c.chunk_id, c.embedding <=> $3 AS distance
    FROM live l JOIN {table} c ON c.tenant = l.tenant AND c.document = l.document
    WHERE l.generation = $1 AND NOT l.deleted AND {condition}
)
SELECT chunk_id, 1 - distance AS score FROM kept ORDER BY distance, chunk_id LIMIT $2
"""

_APPROXIMATE: Final = """
SELECT chunk_id, 1 - (embedding <=> $1) AS score FROM {table} c WHERE {condition} ORDER BY embedding <=> $1 LIMIT $2
"""


@dataclass(frozen=True, kw_only=True)
class PgvectorRanker:
    """`DenseRanker` on a generation's table.

    Attributes:
        pool: connections that know pgvector's types.
        generation: name of the generation; its table exists.
        exact_max_rows: a filter that keeps at most so many rows is searched exactly, without the index. Above, the
            index costs less, and some recall where the filter drops most of what it finds. None: as many as the size
            of the table makes worth while.
    """

    pool: "Pool[Any]"
    generation: str
    exact_max_rows: int | None = None

    @cached_property
    def _table(self) -> str:
        return chunks_table(self.generation)

    async def nearest(self, tenant: str, vector: Vectors, filters: Filters, limit: int) -> list[Candidate]:
        """See `DenseRanker.nearest`; exact where the filter keeps few rows, else HNSW with an iterative scan.

        Args:
            tenant: whose chunks.
            vector: shape (dim,) or (1, dim).
            filters: enforced inside the query.
            limit: 1 or more.
        """
        ef_search = min(max(EF_SEARCH_MIN, limit), EF_SEARCH_MAX)
        async with transaction(self.pool) as connection:
            await connection.execute(_SETTINGS.format(ef_search=ef_search))
            if await self._keeps_few(connection, tenant, filters):
                where, parameters = condition(tenant, filters, first=4, table="l")
                query, leading = _EXACT, [self.generation, limit, vector.reshape(-1)]
            else:
                where, parameters = condition(tenant, filters, first=3, table="c")
                query, leading = _APPROXIMATE, [vector.reshape(-1), limit]
            rows = await connection.fetch(query.format(table=self._table, condition=where), *leading, *parameters)
        found = [Candidate(chunk=ChunkId(row["chunk_id"]), score=row["score"]) for row in rows]
        return sorted(found, key=lambda candidate: (-candidate.score, candidate.chunk))

    async def _keeps_few(self, connection: "Connection[Any]", tenant: str, filters: Filters) -> bool:
        where, parameters = condition(tenant, filters, first=3, table="l")
        query = _KEEPS_FEW.format(table=self._table, condition=where)
        return bool(await connection.fetchval(query, self.generation, self.exact_max_rows, *parameters))
