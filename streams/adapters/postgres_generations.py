"""What is wanted of index generations, in Postgres."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from schemas.ids import DocumentId, DocumentKey, Tenant
from schemas.postgres.generation import drop_table, make_table, point_alias
from streams.adapters.postgres import Pool, lend, transaction
from streams.adapters.postgres_catalogue import COLUMNS, generation_of
from streams.adapters.postgres_views import SEEN_S
from streams.lifecycle.rank import STATUS_RANKS
from streams.operator.generations import Missing, Readers, Switch
from streams.ports import Generation

_SWITCH: Final = """
SELECT id::text, generation, previous, forced, state FROM switches
WHERE alias = $1 AND state IN ('asked', 'moved') ORDER BY asked_at LIMIT 1
"""

# a switch $2 to generation $1
_MISSING: Final = """
FROM documents d
JOIN generations g ON g.generation = $1
LEFT JOIN live l ON l.generation = $1 AND (l.tenant, l.document) = (d.tenant, d.document)
LEFT JOIN sunk s ON g.in_opensearch AND s.generation = $1 AND (s.tenant, s.document) = (d.tenant, d.document)
WHERE d.latest_version > 0
  AND coalesce(d.accepted_at, d.updated_at) <= (SELECT asked_at FROM switches WHERE id = $2)
  AND NOT (coalesce(l.version = d.latest_version, d.deleted)
           AND (NOT g.in_opensearch OR coalesce(s.version = d.latest_version, d.deleted)))
  AND NOT (d.status = 'failed' AND d.status_version = d.latest_version)
"""

_WHICH: Final = f"""
SELECT d.tenant, d.document, d.latest_version,
       (SELECT u.stage || ' (' || u.reason || ': ' || left(u.message, 200) || ')' FROM given_up u
        WHERE (u.generation, u.tenant, u.document, u.version) = ($1, d.tenant, d.document, d.latest_version)
        ORDER BY u.failed_at DESC LIMIT 1) AS given_up
{_MISSING}
ORDER BY d.tenant, d.document LIMIT $3
"""

# A version that a generation has indexed while it did not answer left no trace in the status. Events that come from
# now on do, for the alias has moved; so what is missed here is told by them.
_SETTLE: Final = """
UPDATE documents d SET
    status = CASE WHEN l.deleted THEN 'deleted' ELSE 'indexed' END, status_version = l.version,
    status_rank = CASE WHEN l.deleted THEN $3::smallint ELSE $2::smallint END,
    stage = 'index', failure_reason = NULL, failure_message = NULL, n_chunks = l.n_chunks, updated_at = now()
FROM live l
WHERE l.generation = $1 AND (d.tenant, d.document) = (l.tenant, l.document) AND l.version = d.latest_version
  AND l.deleted = d.deleted AND (d.status_version, d.status_rank) < (l.version, $2::smallint)
"""


@dataclass(frozen=True, kw_only=True)
class PostgresGenerations:
    """`GenerationRows` on `generations`, `switches`, `aliases` and `documents`.

    Attributes:
        pool: connections.
        alias: names the generation that answers.
    """

    pool: "Pool[Any]"
    alias: str

    async def wanted(self, state: Literal["asked", "dropping"]) -> Sequence[Generation]:
        """See `GenerationRows.wanted`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(
                f"SELECT {COLUMNS} FROM generations WHERE state = $1 ORDER BY created_at, name", state
            )
        return [generation_of(row) for row in rows]

    async def made(self, name: str, dim: int) -> None:
        """See `GenerationRows.made`.

        Raises:
            ValueError: vectors that no index can hold.
        """
        async with transaction(self.pool) as connection:
            await make_table(connection, name, dim)
            await connection.execute(
                "UPDATE generations SET dim = $2, state = 'following', why = NULL "
                "WHERE generation = $1 AND state = 'asked'",
                name,
                dim,
            )

    async def failed(self, name: str, why: str) -> None:
        """See `GenerationRows.failed`."""
        async with lend(self.pool) as connection:
            await connection.execute(
                "UPDATE generations SET state = 'failed', why = $2 WHERE generation = $1 AND state = 'asked'", name, why
            )

    async def waits(self, name: str, why: str) -> None:
        """See `GenerationRows.waits`."""
        async with lend(self.pool) as connection:
            await connection.execute("UPDATE generations SET why = $2 WHERE generation = $1", name, why)

    async def open_questions(self, name: str) -> int:
        """See `GenerationRows.open_questions`."""
        async with lend(self.pool) as connection:
            return int(
                await connection.fetchval(
                    "SELECT count(*) FROM queries WHERE state IN ('pending', 'claimed') AND generation = $1", name
                )
            )

    async def chunker_needed(self, chunker: str, but_for: str) -> bool:
        """See `GenerationRows.chunker_needed`."""
        async with lend(self.pool) as connection:
            return bool(
                await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM generations WHERE chunker = $1 AND generation <> $2 "
                    "AND state IN ('asked', 'following', 'paused', 'dropping'))",
                    chunker,
                    but_for,
                )
            )

    async def dropped(self, name: str) -> None:
        """See `GenerationRows.dropped`."""
        async with transaction(self.pool) as connection:
            await drop_table(connection, name)
            await connection.execute("DELETE FROM shadows WHERE generation = $1", name)
            await connection.execute(
                "UPDATE generations SET state = 'dropped', why = NULL, shadow_share = 0 WHERE generation = $1", name
            )

    async def switch(self) -> Switch | None:
        """See `GenerationRows.switch`."""
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(_SWITCH, self.alias)
        return None if row is None else Switch(**dict(row))

    async def readers(self, name: str) -> Readers:
        """See `GenerationRows.readers`."""
        async with lend(self.pool) as connection:
            seen = await connection.fetch(
                "SELECT worker, bool_or(generation = $2) AS ready FROM lexical_views "
                "WHERE seen_at > now() - make_interval(secs => $1) GROUP BY worker",
                SEEN_S,
                name,
            )
        return Readers(
            workers={each["worker"] for each in seen}, ready={each["worker"] for each in seen if each["ready"]}
        )

    async def missing(self, switch: Switch) -> int:
        """See `GenerationRows.missing`."""
        async with lend(self.pool) as connection:
            return int(await connection.fetchval(f"SELECT count(*) {_MISSING}", switch.generation, switch.id))

    async def which_missing(self, switch: Switch, limit: int) -> Sequence[Missing]:
        """See `GenerationRows.which_missing`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(_WHICH, switch.generation, switch.id, limit)
        return [
            Missing(
                key=DocumentKey(Tenant(row["tenant"]), DocumentId(row["document"])),
                version=row["latest_version"],
                given_up=row["given_up"],
            )
            for row in rows
        ]

    async def move(self, switch: Switch) -> bool:
        """See `GenerationRows.move`."""
        async with transaction(self.pool) as connection:
            named = await connection.fetchval("SELECT generation FROM aliases WHERE alias = $1 FOR UPDATE", self.alias)
            held = await connection.fetchval(
                "SELECT state = 'following' FROM generations WHERE generation = $1 FOR UPDATE",
                switch.generation,
            )
            if named != switch.previous or not held:
                return False
            await point_alias(connection, self.alias, switch.generation)
            await connection.execute(
                "UPDATE switches SET state = 'moved', why = NULL, moved_at = now() WHERE id = $1", switch.id
            )
        return True

    async def settle(self, switch: Switch) -> None:
        """See `GenerationRows.settle`."""
        async with transaction(self.pool) as connection:
            await connection.execute("SET LOCAL statement_timeout = '120s'")
            await connection.execute(_SETTLE, switch.generation, STATUS_RANKS["indexed"], STATUS_RANKS["deleted"])
            await connection.execute(
                "UPDATE switches SET state = 'done', finished_at = now() WHERE id = $1 AND state = 'moved'", switch.id
            )

    async def switch_waits(self, switch: Switch, why: str) -> None:
        """See `GenerationRows.switch_waits`."""
        async with lend(self.pool) as connection:
            await connection.execute("UPDATE switches SET why = $2 WHERE id = $1 AND state = 'asked'", switch.id, why)

    async def refuse(self, switch: Switch, why: str) -> None:
        """See `GenerationRows.refuse`."""
        async with lend(self.pool) as connection:
            await connection.execute(
                "UPDATE switches SET state = 'refused', why = $2, finished_at = now() "
                "WHERE id = $1 AND state = 'asked'",
                switch.id,
                why,
            )
