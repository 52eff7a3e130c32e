"""Dead letters of documents, as the register holds them."""

from typing import Any

import asyncpg


async def give_up(
    pool: "asyncpg.Pool[Any]", offset: int, document: str, version: int, group: str, *, reason: str = "bug"
) -> None:
    """Register that the embed stage of this group gave up a version of tenant acme."""
    await pool.execute(
        'INSERT INTO dead_letters (stage, partition, "offset", reason, message, attempts, failed_at, tenant, document, '
        "version, n_bytes, source_topic, source_topic_id, source_partition, source_offset, consumer_group) "
        "VALUES ('embed', 0, $1, $5, 'm', 1, now(), 'acme', $2, $3, 1, 't', 'i', 0, 0, $4)",
        *(offset, document, version, group, reason),
    )
