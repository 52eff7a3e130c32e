"""The register of dead letters in Postgres, as callers of the gateway see it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from gateway.auth import Caller
from gateway.ports import LetterFilter, LetterRow
from gateway.postgres import lend

_SEEN: Final = """
    ($1 OR (l.tenant = $2 AND (l.document IS NULL OR EXISTS (
        SELECT 1 FROM documents d
        WHERE d.tenant = l.tenant AND d.document = l.document AND (d.acl IS NULL OR d.acl && $3::text[])))))
"""

_SELECT: Final = f"SELECT l.* FROM dead_letters l WHERE {_SEEN}"

_COPIED: Final = (
    "reason",
    "message",
    "attempts",
    "tenant",
    "document",
    "version",
    "n_bytes",
    "source_topic",
    "source_partition",
    "source_offset",
    "consumer_group",
    "why",
    "changed_at",
)


@dataclass(frozen=True, kw_only=True)
class PostgresLetterRows:
    """`LetterRows` on the table `dead_letters`."""

    pool: "asyncpg.Pool[Any]"

    async def page(
        self, caller: Caller, wanted: LetterFilter, *, before: LetterRow | None, limit: int
    ) -> list[LetterRow]:
        """See `LetterRows.page`."""
        terms, values = _terms(wanted, first=4)
        if before is not None:
            n = len(values) + 4
            terms.append(f'(l.failed_at, l.stage, l.partition, l."offset") < (${n}, ${n + 1}, ${n + 2}, ${n + 3})')
            values += [before.failed_at, before.stage, before.partition, before.offset]
        statement = (
            " AND ".join([_SELECT, *terms])
            + f' ORDER BY l.failed_at DESC, l.stage DESC, l.partition DESC, l."offset" DESC LIMIT {int(limit)}'
        )
        async with lend(self.pool) as connection:
            rows = await connection.fetch(statement, *_who(caller), *values)
        return [_row(row) for row in rows]

    async def find(self, caller: Caller, stage: str, partition: int, offset: int) -> LetterRow | None:
        """See `LetterRows.find`."""
        statement = f'{_SELECT} AND l.stage = $4 AND l.partition = $5 AND l."offset" = $6'
        async with lend(self.pool) as connection:
            row = await connection.fetchrow(statement, *_who(caller), stage, partition, offset)
        return None if row is None else _row(row)

    async def decide(self, row: LetterRow, state: str, *, from_states: Sequence[str]) -> bool:
        """See `LetterRows.decide`."""
        async with lend(self.pool) as connection:
            changed = await connection.fetchval(
                """
                UPDATE dead_letters SET state = $4, why = NULL, changed_at = now()
                WHERE stage = $1 AND partition = $2 AND "offset" = $3 AND state = ANY ($5::text[]) RETURNING true
                """,
                row.stage,
                row.partition,
                row.offset,
                state,
                list(from_states),
            )
        return bool(changed)

    async def decide_all(self, caller: Caller, wanted: LetterFilter, state: str, *, but_stages: Sequence[str]) -> int:
        """See `LetterRows.decide_all`."""
        terms, values = _terms(wanted, first=6)
        statement = " AND ".join(
            [
                "UPDATE dead_letters AS l SET state = $4, why = NULL, changed_at = now() WHERE l.state = 'open'",
                "l.stage <> ALL ($5::text[])",
                _SEEN,
                *terms,
            ]
        )
        async with lend(self.pool) as connection:
            status = await connection.execute(statement, *_who(caller), state, list(but_stages), *values)
        return int(status.rpartition(" ")[2])


def _who(caller: Caller) -> tuple[bool, str, Sequence[str]]:
    return caller.operator, caller.tenant, list(caller.groups)


def _terms(wanted: LetterFilter, *, first: int) -> tuple[list[str], list[Any]]:
    """Return the conditions of a filter, and their values from parameter `first` on."""
    conditions = (
        ("l.stage = ", wanted.stage),
        ("l.reason = ", wanted.reason),
        ("l.state = ", wanted.state),
        ("l.tenant = ", wanted.tenant),
        ("l.document = ", wanted.document),
        ("l.failed_at >= ", wanted.since),
        ("l.failed_at < ", wanted.until),
    )
    asked = [(condition, value) for condition, value in conditions if value is not None]
    return [f"{condition}${first + n}" for n, (condition, _) in enumerate(asked)], [value for _, value in asked]


def _row(row: Any) -> LetterRow:
    attributes = {name: row[name] for name in _COPIED} | {
        "query": None if row["query"] is None else str(row["query"]),
        "key": None if row["key"] is None else row["key"].decode("utf-8", "backslashreplace"),
    }
    return LetterRow(
        stage=row["stage"],
        partition=row["partition"],
        offset=row["offset"],
        state=row["state"],
        failed_at=row["failed_at"],
        attributes=attributes,
    )
