"""Which reply partition this gateway's new questions use: the one with the fewest live gateways."""

import asyncio
import logging
import uuid
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg
from confluent_kafka import KafkaException

from backbone.kafka import Admin, MissingTopic
from gateway.postgres import lend
from gateway.problems import Problem
from gateway.replies import Replies
from schemas.topics import ANSWERS

LEASE_S: Final = 10.0
RENEW_S: Final = 3.0

_RETRY_S: Final = 1.0
_logger = logging.getLogger(__name__)

_CHOOSE: Final = """
INSERT INTO gateways (gateway, reply_partition, lease_until)
SELECT $1, partition, now() + make_interval(secs => $3)
FROM unnest($2::integer[]) AS partition
LEFT JOIN gateways g ON g.reply_partition = partition AND g.lease_until > now() AND g.gateway <> $1
GROUP BY partition
ORDER BY count(g.gateway), random()
LIMIT 1
RETURNING reply_partition
"""

# A sweeper may have dropped the row of a gateway that was cut off for a while; the gateway keeps its partition.
_RENEW: Final = """
INSERT INTO gateways (gateway, reply_partition, lease_until) VALUES ($1, $2, now() + make_interval(secs => $3))
ON CONFLICT (gateway) DO UPDATE SET lease_until = excluded.lease_until
"""

_GIVE_BACK: Final = "DELETE FROM gateways WHERE gateway = $1"

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('headrace.gateways'))"
"""One gateway chooses at a time, so that two that start together do not choose the same."""


@dataclass(kw_only=True)
class ReplyLease:
    """Leases a reply partition while `run` runs.

    Losing it harms nothing: it only says where new questions go. So while Postgres is away the partition stays.

    Attributes:
        gateway: a fresh id of this process.
    """

    pool: "asyncpg.Pool[Any]"
    admin: Admin
    replies: Replies
    gateway: str = field(default_factory=lambda: uuid.uuid4().hex)

    async def run(self) -> None:
        """Choose a partition, then renew, until cancelled; Kafka or Postgres away only delays it."""
        try:
            while True:
                try:
                    if self.replies.partition is None:
                        await self.choose()
                    else:
                        await self.renew(self.replies.partition)
                except (Problem, KafkaException, MissingTopic) as error:
                    _logger.warning("the reply partition cannot be leased, trying again: %s", error)
                    await asyncio.sleep(_RETRY_S)
                else:
                    await asyncio.sleep(RENEW_S)
        finally:
            await self._give_back()

    async def choose(self) -> None:
        """Lease the partition with the fewest live gateways.

        Raises:
            Problem: 503, Postgres is away.
            KafkaException: Kafka is away.
            MissingTopic: there is no answers topic.
        """
        partitions = sorted(await self.admin.end_offsets(ANSWERS.name))
        async with lend(self.pool) as connection, connection.transaction():
            await connection.execute(_LOCK)
            partition: int = await connection.fetchval(_CHOOSE, self.gateway, partitions, LEASE_S)
        self.replies.lease(partition)
        _logger.info("replies to questions of this gateway go to partition %d", partition)

    async def renew(self, partition: int) -> None:
        """Let the lease last for another LEASE_S.

        Raises:
            Problem: 503, Postgres is away.
        """
        async with lend(self.pool) as connection:
            await connection.execute(_RENEW, self.gateway, partition, LEASE_S)

    async def _give_back(self) -> None:
        try:
            async with asyncio.timeout(_RETRY_S), lend(self.pool) as connection:
                await connection.execute(_GIVE_BACK, self.gateway)
        except (Problem, TimeoutError):
            _logger.info("the lease of the reply partition lapses by itself: Postgres is away")
