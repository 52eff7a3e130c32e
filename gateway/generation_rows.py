"""Index generations in Postgres, as the gateway reads them and says what is wanted of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import asyncpg
import uuid_utils

from gateway.postgres import lend

SEEN_S: Final = 15.0
"""A retrieval worker that has said nothing for so long is taken for gone."""
_RATE_S: Final = 60.0

_SELECT: Final = """
SELECT g.generation AS name, g.chunker, g.embedder, g.lexical, g.vectors, g.dim, g.state, g.why, g.created_at,
       g.shadow_share,
       EXISTS (SELECT FROM aliases a WHERE a.alias = $1 AND a.generation = g.generation) AS serving
FROM generations g
"""

_PROGRESS: Final = """
SELECT coalesce(c.n_documents, 0) AS n_documents, coalesce(c.n_covered, 0) AS n_covered,
       coalesce(c.n_failed, 0) AS n_failed,
       (SELECT count(*) FROM live l
        WHERE l.generation = g.generation AND l.indexed_at > now() - make_interval(secs => $2)) / $2::float8
           AS documents_per_s,
       (SELECT count(DISTINCT worker) FROM lexical_views v WHERE v.seen_at > now() - make_interval(secs => $3))
           AS n_workers,
       (SELECT count(*) FROM lexical_views v
        WHERE v.generation = g.generation AND v.seen_at > now() - make_interval(secs => $3)) AS n_ready,
       CASE WHEN g.shadow_since IS NOT NULL
            THEN coalesce(g.shadow_report, '{}') || jsonb_build_object('since', g.shadow_since,
                'n_dropped', g.shadow_dropped) END AS shadow
FROM generations g LEFT JOIN coverage c USING (generation)
WHERE g.generation = $1
"""

# What ended before a share was given is not asked, and not counted as dropped.
_SHADOW: Final = """
UPDATE generations g SET
    shadow_since = CASE WHEN $2::float8 > 0 AND g.shadow_share = 0 THEN now() ELSE g.shadow_since END,
    shadow_swept = CASE WHEN $2::float8 > 0 AND g.shadow_share = 0 THEN now() ELSE g.shadow_swept END,
    shadow_share = $2::float8
WHERE g.generation = $1 AND ($2::float8 = 0 OR g.state IN ('following', 'paused')
    AND NOT EXISTS (SELECT FROM aliases a WHERE a.generation = g.generation))
RETURNING g.generation
"""

_SWITCH: Final = "id::text, generation, previous, kind, forced, gate::text, state, why, asked_at, moved_at, finished_at"


@dataclass(frozen=True, kw_only=True)
class PostgresGenerationRows:
    """`GenerationRows` on `generations`, `aliases`, `switches` and `coverage`.

    Attributes:
        pool: connections.
        alias: names the generation that answers.
    """

    pool: "asyncpg.Pool[Any]"
    alias: str

    async def all(self) -> Sequence[Mapping[str, Any]]:
        """See `GenerationRows.all`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(f"{_SELECT} ORDER BY g.created_at, g.generation", self.alias)
        return [dict(row) for row in rows]

    async def find(self, name: str) -> Mapping[str, Any] | None:
        """See `GenerationRows.find`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(f"{_SELECT} WHERE g.generation = $2", self.alias, name)
        return None if row is None else dict(row)

    async def progress(self, name: str) -> Mapping[str, Any]:
        """See `GenerationRows.progress`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(_PROGRESS, name, _RATE_S, SEEN_S)
        return dict(row or {})

    async def ask(self, name: str, *, chunker: str, embedder: str, lexical: str, vectors: str) -> bool:
        """See `GenerationRows.ask`."""
        async with lend(self.pool) as connection:
            made = await connection.fetchval(
                "INSERT INTO generations (generation, chunker, embedder, lexical, vectors, state) "
                "VALUES ($1, $2, $3, $4, $5, 'asked') ON CONFLICT DO NOTHING RETURNING generation",
                name,
                chunker,
                embedder,
                lexical,
                vectors,
            )
        return made is not None

    async def change(self, name: str, state: str, *, from_states: Sequence[str]) -> bool:
        """See `GenerationRows.change`; one that answers, or is about to, stays as it is."""
        async with lend(self.pool) as connection:
            done = await connection.fetchval(
                "UPDATE generations g SET state = $2, why = NULL WHERE generation = $1 AND state = ANY ($3) "
                "AND NOT EXISTS (SELECT FROM aliases a WHERE a.generation = g.generation) "
                "AND NOT EXISTS (SELECT FROM switches s "
                "                WHERE s.generation = g.generation AND s.state IN ('asked', 'moved')) "
                "RETURNING generation",
                name,
                state,
                list(from_states),
            )
        return done is not None

    async def shadow(self, name: str, share: float) -> bool:
        """See `GenerationRows.shadow`."""
        async with lend(self.pool) as connection:
            done = await connection.fetchval(_SHADOW, name, share)
        return done is not None

    async def switch(
        self,
        name: str,
        *,
        previous: str,
        kind: Literal["switch", "rollback"],
        forced: bool,
        gate: str | None,
        asked_by: str,
    ) -> Mapping[str, Any] | None:
        """See `GenerationRows.switch`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(
                "INSERT INTO switches (id, alias, generation, previous, kind, forced, gate, asked_by) "
                "VALUES ($1, $2, $3, $4, $5, $6, $7, $8) "
                "ON CONFLICT (alias) WHERE state IN ('asked', 'moved') DO NOTHING "
                f"RETURNING {_SWITCH}",
                str(uuid_utils.uuid7()),
                self.alias,
                name,
                previous,
                kind,
                forced,
                gate,
                asked_by,
            )
        return None if row is None else dict(row)

    async def switches(self, limit: int) -> Sequence[Mapping[str, Any]]:
        """See `GenerationRows.switches`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(
                f"SELECT {_SWITCH} FROM switches WHERE alias = $1 ORDER BY asked_at DESC, id DESC LIMIT $2",
                self.alias,
                limit,
            )
        return [dict(row) for row in rows]

    async def cancel_switch(self) -> bool:
        """See `GenerationRows.cancel_switch`."""
        async with lend(self.pool) as connection:
            done = await connection.execute(
                "UPDATE switches SET state = 'refused', why = 'cancelled', finished_at = now() "
                "WHERE alias = $1 AND state = 'asked'",
                self.alias,
            )
        return bool(done != "UPDATE 0")
