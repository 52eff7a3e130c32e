"""The embeddings topic of a generation, from its beginning to its end, without a consumer group."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import KafkaException

from backbone.kafka import Admin, AtEnd, MissingTopic, Overtaken, PartitionReader, Received
from backbone.settings import KafkaSettings
from schemas import codec
from schemas.events import DocumentEmbedded
from schemas.ids import InvalidId, parse_document_key
from schemas.topics import EMBEDDINGS
from streams.errors import Fatal, Transient
from streams.operator.rebuild import Embedded


@dataclass(frozen=True, kw_only=True)
class KafkaEmbeddings:
    """`Embeddings` on Kafka.

    Attributes:
        settings: how to reach Kafka.
        blobs: where values over 1 MiB are.
        generation: whose.
    """

    settings: KafkaSettings
    blobs: codec.Blobs
    generation: str

    @property
    def _topic(self) -> str:
        return EMBEDDINGS.named(self.generation).name

    async def ends(self) -> Mapping[int, int]:
        """See `Embeddings.ends`."""
        with self._translating():
            return await Admin(self.settings).end_offsets(self._topic)

    async def read(self, start: Mapping[int, int], ends: Mapping[int, int]) -> AsyncIterator[Embedded]:
        """See `Embeddings.read`.

        Raises:
            Fatal: there is no such topic.
        """
        with self._translating():
            firsts = await Admin(self.settings).start_offsets(self._topic)
            starts = {partition: max(start.get(partition, 0), firsts[partition]) for partition in ends}
            left = {partition for partition in ends if starts[partition] < ends[partition]}
            if not left:
                return
            async with PartitionReader(self.settings, self._topic, {each: starts[each] for each in left}) as reader:
                async for item in reader:
                    if isinstance(item, Overtaken):
                        continue
                    if isinstance(item, Received) and (record := await self._record(item)) is not None:
                        yield record
                    after = item.offset if isinstance(item, AtEnd) else item.offset + 1
                    if after >= ends[item.partition]:
                        left.discard(item.partition)
                        reader.drop(item.partition)
                    if not left:
                        return

    async def _record(self, item: Received) -> Embedded | None:
        """Read a record; None: no stage of ours wrote it."""
        headers = codec.headers_of(item.headers)
        version = codec.version_of(headers)
        try:
            key = parse_document_key(item.key)
        except InvalidId:
            return None
        if version is None:
            return None
        event, why = None, None
        try:
            record = codec.Record(key=item.key, value=item.value, headers=headers)
            event = await codec.decode(record, DocumentEmbedded, blobs=self.blobs)
        except (codec.Undecodable, codec.BlobMissing) as error:
            why = str(error)
        return Embedded(partition=item.partition, offset=item.offset, key=key, version=version, event=event, why=why)

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except MissingTopic as error:
            raise Fatal(f"topic {self._topic!r} is gone; make another generation from the documents") from error
        except KafkaException as error:
            raise Transient(f"topic {self._topic!r} cannot be read: {error}", part="kafka") from error
