"""The register of dead letters in Postgres."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from schemas.dead_letters import Why
from streams.adapters.postgres import Pool, lend, transaction
from streams.operator.letters import Letter, Place, Task

_COLUMNS: Final = (
    'stage, partition, "offset", reason, message, attempts, tenant, document, version, query, key, n_bytes, '
    "source_topic, source_topic_id, source_partition, source_offset, consumer_group"
)

_REGISTER: Final = f"""
INSERT INTO dead_letters AS held ({_COLUMNS}, failed_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
        $17, to_timestamp($18::bigint / 1000.0))
ON CONFLICT (stage, partition, "offset") DO UPDATE SET
    reason = excluded.reason, message = excluded.message, attempts = excluded.attempts, tenant = excluded.tenant,
    document = excluded.document, version = excluded.version, query = excluded.query, key = excluded.key,
    n_bytes = excluded.n_bytes, source_topic = excluded.source_topic, source_topic_id = excluded.source_topic_id,
    source_partition = excluded.source_partition, source_offset = excluded.source_offset,
    consumer_group = excluded.consumer_group, failed_at = excluded.failed_at,
    state = 'open', why = NULL, changed_at = now()
WHERE held.failed_at < excluded.failed_at
"""

_NEXT: Final = f"""
SELECT {_COLUMNS}, (extract(epoch FROM failed_at) * 1000)::bigint AS failed_ms
FROM dead_letters WHERE state = 'redrive' ORDER BY changed_at LIMIT 1 FOR UPDATE SKIP LOCKED
"""

_COUNT: Final = "SELECT stage, reason, count(*) AS n FROM dead_letters WHERE state = 'open' GROUP BY stage, reason"

_BECAME: Final = """
UPDATE dead_letters SET state = $4, why = $5, changed_at = now()
WHERE stage = $1 AND partition = $2 AND "offset" = $3
"""


@dataclass(frozen=True, kw_only=True)
class PostgresLetters:
    """`LetterStore` on the table `dead_letters`."""

    pool: "Pool[Any]"

    async def register(self, letter: Letter) -> None:
        """See `LetterStore.register`."""
        place, why = letter.place, letter.why
        async with lend(self.pool) as connection:
            await connection.execute(
                _REGISTER,
                place.stage,
                place.partition,
                place.offset,
                why.reason,
                why.message.replace("\x00", "\ufffd"),
                why.attempts,
                letter.tenant,
                letter.document,
                letter.version,
                letter.query,
                letter.key,
                letter.n_bytes,
                why.topic,
                why.topic_id,
                why.partition,
                why.offset,
                why.group,
                letter.failed_ms,
            )

    async def n_open(self) -> Mapping[tuple[str, str], int]:
        """See `LetterStore.n_open`."""
        async with lend(self.pool) as connection:
            rows = await connection.fetch(_COUNT)
        return {(row["stage"], row["reason"]): row["n"] for row in rows}

    @asynccontextmanager
    async def next_to_redrive(self) -> AsyncIterator[Task | None]:
        """See `LetterStore.next_to_redrive`; a row lock, which ends with the block or with the process."""
        async with transaction(self.pool) as connection:
            row = await connection.fetchrow(_NEXT)
            if row is None:
                yield None
                return
            task = Task(letter=_letter(row))
            yield task
            place = task.letter.place
            await connection.execute(_BECAME, place.stage, place.partition, place.offset, task.state, task.why)


def _letter(row: Any) -> Letter:
    return Letter(
        place=Place(stage=row["stage"], partition=row["partition"], offset=row["offset"]),
        why=Why(
            stage=row["stage"],
            reason=row["reason"],
            message=row["message"],
            attempts=row["attempts"],
            topic=row["source_topic"],
            topic_id=row["source_topic_id"],
            partition=row["source_partition"],
            offset=row["source_offset"],
            group=row["consumer_group"],
        ),
        failed_ms=row["failed_ms"],
        tenant=row["tenant"],
        document=row["document"],
        version=row["version"],
        query=None if row["query"] is None else str(row["query"]),
        key=row["key"],
        n_bytes=row["n_bytes"],
    )
