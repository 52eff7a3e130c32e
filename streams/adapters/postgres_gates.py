"""Gates in Postgres, and the questions of the log that they ask."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from schemas.events import Filters
from streams.adapters.lease import LEASE_S, leased
from streams.adapters.postgres import Pool, lend
from streams.operator.gate.question import Question
from streams.operator.gate.result import Result
from streams.operator.gate.run import KEPT_DAYS, Gate, Sets

_NEXT: Final = """
UPDATE gates SET state = 'running', began_at = coalesce(began_at, now()),
    lease_until = now() + make_interval(secs => $1)
WHERE id = (
    SELECT id FROM gates
    WHERE state = 'asked' OR (state = 'running' AND lease_until < now())
    ORDER BY asked_at LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id::text, candidate, base, tenant, margin, sets, lease_until
"""

_LOGGED: Final = """
SELECT tenant, text, filters FROM (
    SELECT DISTINCT ON (q.tenant, q.question ->> 'text', q.question -> 'filters')
        q.id, q.tenant, q.question ->> 'text' AS text, q.question -> 'filters' AS filters
    FROM queries q JOIN gates g ON g.id = $1
    WHERE q.state = 'finished' AND q.question ->> 'kind' = 'answer'
      AND q.created_at >= g.asked_at - interval '1 day' AND q.created_at < g.asked_at
    ORDER BY q.tenant, q.question ->> 'text', q.question -> 'filters', q.id) AS asked
ORDER BY md5(id::text || $1::text) LIMIT $2
"""

_KEEP: Final = """
WITH held AS (SELECT id FROM gates WHERE id = $1 AND state = 'running'),
     kept AS (INSERT INTO gate_results (gate, number, result) SELECT id, $2, $3 FROM held ON CONFLICT DO NOTHING)
SELECT EXISTS (SELECT FROM held)
"""


_FORGET: Final = """
WITH old AS (
    UPDATE gates SET report = NULL, sets = '{}'
    WHERE finished_at < now() - make_interval(days => $1) AND sets <> '{}' RETURNING id)
DELETE FROM gate_results r USING old WHERE r.gate = old.id
"""


@dataclass(frozen=True, kw_only=True)
class PostgresGates:
    """`GateStore` on the tables `gates` and `gate_results`, and on the log of questions."""

    pool: "Pool[Any]"

    @asynccontextmanager
    async def next(self) -> AsyncIterator[Gate | None]:
        """See `GateStore.next`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(_NEXT, LEASE_S)
        if row is None:
            yield None
            return
        told = dict(row)
        async with leased(self.pool, "gates", row["id"], told.pop("lease_until")):
            yield Gate(**told | {"sets": msgspec.convert(row["sets"], Sets)})

    async def logged(self, gate: Gate) -> Sequence[Question]:
        """See `GateStore.logged`; those of the day before the gate was asked for, each text of a tenant once."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(_LOGGED, gate.id, gate.sets.logged)
        return [
            Question(
                set="logged",
                kind="logged",
                tenant=row["tenant"],
                text=row["text"],
                filters=msgspec.convert(row["filters"] or {}, Filters),
            )
            for row in rows
        ]

    async def shadowed(self, gate: Gate) -> Sequence[Result]:
        """See `GateStore.shadowed`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(
                "SELECT result FROM shadows WHERE generation = $1 AND base = $2 AND state = 'done' "
                "ORDER BY finished_at DESC LIMIT $3",
                gate.candidate,
                gate.base,
                gate.sets.shadowed,
            )
        return [msgspec.convert(row["result"], Result) for row in rows]

    async def known(self, tenant: str, documents: Collection[str]) -> Collection[str]:
        """See `GateStore.known`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(
                "SELECT document FROM documents "
                "WHERE tenant = $1 AND document = ANY($2) AND latest_version > 0 AND NOT deleted",
                tenant,
                list(documents),
            )
        return {row["document"] for row in rows}

    async def results(self, id: str) -> Mapping[int, Result]:
        """See `GateStore.results`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch("SELECT number, result FROM gate_results WHERE gate = $1", id)
        return {row["number"]: msgspec.convert(row["result"], Result) for row in rows}

    async def keep(self, id: str, number: int, result: Result) -> bool:
        """See `GateStore.keep`."""
        async with lend(self.pool) as connection:
            return bool(await connection.fetchval(_KEEP, id, number, msgspec.to_builtins(result)))

    async def progress(self, id: str, told: Mapping[str, Any]) -> None:
        """See `GateStore.progress`."""
        async with lend(self.pool) as connection:
            await connection.execute("UPDATE gates SET progress = progress || $2 WHERE id = $1", id, dict(told))

    async def finish(self, id: str, report: Mapping[str, Any]) -> None:
        """See `GateStore.finish`."""
        async with lend(self.pool) as connection:
            await connection.execute(
                "UPDATE gates SET state = 'finished', verdict = $2, reason = $3, report = $4, finished_at = now() "
                "WHERE id = $1 AND state = 'running'",
                id,
                report["verdict"],
                report["reason"],
                dict(report),
            )

    async def fail(self, id: str, why: str) -> None:
        """See `GateStore.fail`."""
        async with lend(self.pool) as connection:
            await connection.execute(
                "UPDATE gates SET state = 'failed', why = $2, finished_at = now() WHERE id = $1 AND state = 'running'",
                id,
                why,
            )

    async def forget(self) -> None:
        """See `GateStore.forget`."""
        async with lend(self.pool) as connection:
            await connection.execute(_FORGET, KEPT_DAYS)
