"""How far a stage of the ingest lane has come in its topic."""

from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaException

from backbone.kafka import Admin, MissingTopic
from streams.errors import Transient


@dataclass(frozen=True, kw_only=True)
class KafkaHop:
    """`Hop` on a consumer group.

    Attributes:
        admin: a connection to Kafka; hops may share one.
        group: of the stage.
        topic: that it reads.
    """

    admin: Admin
    group: str
    topic: str

    async def ends(self) -> Mapping[int, int]:
        """See `Hop.ends`."""
        try:
            return await self.admin.end_offsets(self.topic)
        except (KafkaException, MissingTopic) as error:
            raise Transient(f"topic {self.topic!r} cannot be read: {error}", part="kafka") from error

    async def handled(self) -> Mapping[int, int]:
        """See `Hop.handled`."""
        try:
            return await self.admin.group_places(self.group, self.topic)
        except (KafkaException, MissingTopic) as error:
            raise Transient(f"group {self.group!r} cannot be asked: {error}", part="kafka") from error
