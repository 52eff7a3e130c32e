"""Shadows of candidates in Postgres, taken from the rows of questions that have ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from schemas.events import Filters
from streams.adapters.postgres import Pool, lend, transaction
from streams.operator.gate.question import Question
from streams.operator.gate.result import Result
from streams.operator.shadow import KEPT, KEPT_DAYS, LATE_S, SET, TAKEN_MAX, Shadow

LEASE_S: Final = 120.0
"""A batch of questions takes no longer, unless its worker is dead."""
GRACE_S: Final = 10.0
"""What could be taken a moment ago is not counted as dropped yet: whoever takes it may not be done with that."""

# A question is in the share of a candidate by the hash of its id: the same ones wherever it is asked, and those of a
# smaller share are among those of a larger one.
_SHARED: Final = """
FROM generations g
JOIN queries q ON q.finished_at > {after} AND q.finished_at <= {until}
WHERE g.state = 'following' AND g.shadow_share > 0 AND q.generation <> g.generation
  AND q.state = 'finished' AND q.outcome = 'done' AND q.question ->> 'kind' = 'answer'
  AND ('x' || left(md5(q.id::text), 8))::bit(32)::bigint < g.shadow_share * 4294967296
  AND NOT EXISTS (SELECT FROM aliases a WHERE a.generation = g.generation)
"""

_TAKE: Final = f"""
WITH fresh AS (
    SELECT g.generation, q.id AS query, q.generation AS base, q.finished_at AS since
    {_SHARED.format(after="greatest(g.shadow_since, now() - make_interval(secs => $3))", until="now()")}
      AND NOT EXISTS (SELECT FROM shadows s WHERE s.generation = g.generation AND s.query = q.id)
), lapsed AS (
    SELECT s.generation, s.query, s.base, s.lease_until AS since
    FROM shadows s JOIN generations g USING (generation)
    WHERE s.state = 'taken' AND s.lease_until < now() AND s.n_taken < $4 AND g.state = 'following'
), chosen AS (
    SELECT * FROM (TABLE lapsed UNION ALL TABLE fresh) AS due ORDER BY since, query LIMIT $2
), taken AS (
    INSERT INTO shadows AS s (generation, query, base, lease_until)
    SELECT generation, query, base, now() + make_interval(secs => $1) FROM chosen
    ON CONFLICT (generation, query) DO UPDATE SET n_taken = s.n_taken + 1, lease_until = excluded.lease_until
        WHERE s.state = 'taken' AND s.lease_until < now()
    RETURNING generation, query, base
)
SELECT t.generation, t.query::text, t.base, q.tenant, q.question ->> 'text' AS text, q.question -> 'filters' AS filters
FROM taken t JOIN queries q ON q.id = t.query ORDER BY q.finished_at, q.id
"""

# One statement for the mark and the count, under the lock of the row: each question is counted by one sweep.
_DROPPED: Final = f"""
WITH due AS (
    SELECT generation, coalesce(shadow_swept, shadow_since) AS swept, now() - make_interval(secs => $1) AS until
    FROM generations
    WHERE shadow_share > 0 AND coalesce(shadow_swept, shadow_since) < now() - make_interval(secs => $1)
    FOR UPDATE SKIP LOCKED
), missed AS (
    SELECT g.generation, count(*) AS n
    {
    _SHARED.format(
        after="(SELECT swept FROM due d WHERE d.generation = g.generation)",
        until="(SELECT until FROM due d WHERE d.generation = g.generation)",
    )
}
      AND NOT EXISTS (SELECT FROM shadows s WHERE s.generation = g.generation AND s.query = q.id)
    GROUP BY g.generation
), moved AS (
    UPDATE generations g SET shadow_swept = d.until, shadow_dropped = g.shadow_dropped + coalesce(m.n, 0)
    FROM due d LEFT JOIN missed m USING (generation)
    WHERE g.generation = d.generation RETURNING coalesce(m.n, 0) AS n
)
SELECT coalesce(sum(n), 0)::bigint FROM moved
"""

_GIVEN_UP: Final = """
UPDATE shadows SET state = 'failed', why = 'its workers died', finished_at = now()
WHERE state = 'taken' AND lease_until < now() AND n_taken >= $1
"""

_OLD: Final = """
WITH kept AS (
    SELECT generation, (
        SELECT s.finished_at FROM shadows s WHERE s.generation = g.generation AND s.state <> 'taken'
        ORDER BY s.finished_at DESC OFFSET $2 LIMIT 1) AS after
    FROM generations g WHERE shadow_since IS NOT NULL
)
DELETE FROM shadows s USING kept k
WHERE s.generation = k.generation AND s.state <> 'taken'
  AND (s.finished_at < now() - make_interval(days => $1) OR s.finished_at <= k.after)
"""

_UNREPORTED: Final = """
SELECT generation, base, mark FROM (
    SELECT g.generation, a.generation AS base, g.shadow_mark,
           a.generation || '/' || count(*) || '/' || max(s.finished_at) AS mark
    FROM generations g
    JOIN aliases a ON a.alias = $1 AND a.generation <> g.generation
    JOIN shadows s ON s.generation = g.generation AND s.base = a.generation AND s.state <> 'taken'
    GROUP BY g.generation, a.generation) AS now
WHERE shadow_mark IS DISTINCT FROM mark
"""


@dataclass(frozen=True, kw_only=True)
class PostgresShadows:
    """`ShadowStore` on `shadows`, `generations` and `queries`.

    Attributes:
        pool: connections.
        alias: names the generation that answers.
    """

    pool: "Pool[Any]"
    alias: str

    async def take(self, limit: int) -> Sequence[Shadow]:
        """See `ShadowStore.take`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(_TAKE, LEASE_S, limit, LATE_S, TAKEN_MAX)
        return [
            Shadow(
                candidate=row["generation"],
                base=row["base"],
                query=row["query"],
                question=Question(
                    set=SET,
                    kind="logged",
                    tenant=row["tenant"],
                    text=row["text"],
                    filters=msgspec.convert(row["filters"] or {}, Filters),
                ),
            )
            for row in rows
        ]

    async def keep(self, shadow: Shadow, result: Result) -> bool:
        """See `ShadowStore.keep`; a generation that is dropped meanwhile keeps nothing."""
        async with lend(self.pool) as connection:
            kept = await connection.execute(
                "UPDATE shadows SET state = 'done', result = $3, finished_at = now() "
                "WHERE generation = $1 AND query = $2 AND state = 'taken'",
                shadow.candidate,
                shadow.query,
                msgspec.to_builtins(result),
            )
        return bool(kept == "UPDATE 1")

    async def fail(self, shadow: Shadow, why: str) -> None:
        """See `ShadowStore.fail`."""
        async with lend(self.pool) as connection:
            await connection.execute(
                "UPDATE shadows SET state = 'failed', why = $3, finished_at = now() "
                "WHERE generation = $1 AND query = $2 AND state = 'taken'",
                shadow.candidate,
                shadow.query,
                why,
            )

    async def give_back(self, shadow: Shadow) -> None:
        """See `ShadowStore.give_back`."""
        async with lend(self.pool) as connection:
            await connection.execute(
                "DELETE FROM shadows WHERE generation = $1 AND query = $2 AND state = 'taken'",
                shadow.candidate,
                shadow.query,
            )

    async def sweep(self) -> tuple[int, int]:
        """See `ShadowStore.sweep`."""
        async with transaction(self.pool) as connection:
            n_dropped = await connection.fetchval(_DROPPED, LATE_S + GRACE_S)
            given_up = await connection.execute(_GIVEN_UP, TAKEN_MAX)
            await connection.execute(_OLD, KEPT_DAYS, KEPT)
        return int(n_dropped), int(given_up.split()[-1])

    async def unreported(self) -> Sequence[tuple[str, str, str]]:
        """See `ShadowStore.unreported`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(_UNREPORTED, self.alias)
        return [(row["generation"], row["base"], row["mark"]) for row in rows]

    async def results(self, candidate: str, base: str) -> tuple[Sequence[Result], int]:
        """See `ShadowStore.results`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(
                "SELECT state, result FROM shadows WHERE generation = $1 AND base = $2 AND state <> 'taken' "
                "ORDER BY finished_at DESC",
                candidate,
                base,
            )
        results = [msgspec.convert(row["result"], Result) for row in rows if row["state"] == "done"]
        return results, len(rows) - len(results)

    async def report(self, candidate: str, mark: str, report: dict[str, Any]) -> None:
        """See `ShadowStore.report`."""
        async with lend(self.pool) as connection:
            await connection.execute(
                "UPDATE generations SET shadow_mark = $2, shadow_report = $3 WHERE generation = $1",
                candidate,
                mark,
                report,
            )
