"""The id that Kafka gave the ingest topic, which submissions are compared by."""

import asyncio
from typing import Final

from confluent_kafka import KafkaException

from backbone.kafka import Admin, MissingTopic
from gateway.problems import unavailable
from schemas.topics import INGEST

_name: Final = INGEST.name
_ANSWER_S: Final = 5.0


class TopicId:
    """Asks Kafka once; the topic of a running stack is not made again."""

    def __init__(self, admin: Admin) -> None:
        """Args:
        admin: asks.
        """
        self._admin = admin
        self._known: str | None = None

    async def __call__(self) -> str:
        """Return the id.

        Raises:
            Problem: 503, Kafka is away and was never asked, or the topic is missing.
        """
        if self._known is None:
            try:
                async with asyncio.timeout(_ANSWER_S):
                    self._known = (await self._admin.topic_ids([_name]))[_name]
            except (KafkaException, MissingTopic, TimeoutError) as error:
                raise unavailable("Kafka", error) from error
        return self._known
