"""Topics and consumer groups of index generations, in Kafka."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from confluent_kafka import KafkaException

from backbone.kafka import Admin, GroupInUse
from schemas.topics import CHUNKS, EMBEDDINGS
from streams.errors import Transient
from streams.operator.generations import InUse
from streams.ports import Generation


@dataclass(frozen=True, kw_only=True)
class KafkaBelongings:
    """`Belongings` on Kafka.

    Attributes:
        admin: a connection.
        overrides: Kafka settings by topic name, for topics that are made.
    """

    admin: Admin
    overrides: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    async def make(self, generation: Generation) -> None:
        """See `Belongings.make`."""
        with _translating():
            await self.admin.ensure_topics(
                [CHUNKS.named(generation.chunker), EMBEDDINGS.named(generation.name)], self.overrides
            )

    async def drop(self, generation: Generation, *, chunks_too: bool) -> None:
        """See `Belongings.drop`."""
        groups = [f"rag.embed.{generation.name}", f"rag.index.{generation.name}"]
        if generation.in_opensearch:
            groups.append(f"rag.index.{generation.name}.opensearch")
        topics = [EMBEDDINGS.named(generation.name).name]
        if chunks_too:
            groups.append(f"rag.chunk.{generation.chunker}")
            topics.append(CHUNKS.named(generation.chunker).name)
        with _translating():
            for group in groups:
                await self.admin.check_unused(group)
            for group in groups:
                await self.admin.drop_group(group)
            for topic in topics:
                await self.admin.drop_topic(topic)


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except GroupInUse as error:
        raise InUse(str(error)) from error
    except KafkaException as error:
        raise Transient(f"topics and groups cannot be changed: {error}", part="kafka") from error
