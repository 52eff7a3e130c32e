"""Single records of Kafka's topics: of documents that are done again, and of dead letters."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from aiokafka.partitioner import murmur2
from confluent_kafka import KafkaException

from backbone.kafka import Admin, AtEnd, MissingTopic, PartitionReader, Received, record_at
from backbone.settings import KafkaSettings
from schemas import codec
from schemas.events import DocumentAccepted
from schemas.ids import DocumentKey
from schemas.topics import DEAD_LETTERS, DOCUMENTS, INGEST
from streams.errors import Transient
from streams.intake.reissue import Held, Submission
from streams.operator.letters import Place, StoredRecord
from streams.runtime.record import Origin

_SCAN_S: Final = 120.0
"""Longest look through a partition; a longer one fails, and is tried again."""


@contextmanager
def _translating(what: str) -> Iterator[None]:
    try:
        yield
    except (KafkaException, MissingTopic, TimeoutError) as error:
        raise Transient(f"{what} cannot be read: {str(error) or type(error).__name__}", part="kafka") from error


@dataclass(frozen=True, kw_only=True)
class KafkaLog:
    """`Log` of the intake stage."""

    settings: KafkaSettings
    blobs: codec.Blobs

    async def accepted(self, key: DocumentKey, version: int, since_ms: int) -> Held | None:
        """See `Log.accepted`; reads the document's partition, from that time to its end."""
        with _translating(f"topic {DOCUMENTS.name!r}"):
            async with asyncio.timeout(_SCAN_S):
                async for record in self._records(key, since_ms):
                    if codec.version_of(record.headers) == version:
                        return Held(event=await codec.decode(record, DocumentAccepted, blobs=self.blobs))
        return None

    async def submission(self, place: Origin) -> Submission | None:
        """See `Log.submission`."""
        with _translating(f"topic {INGEST.name!r}"):
            ids = await Admin(self.settings).topic_ids([INGEST.name])
            if ids[INGEST.name] != place.topic_id:
                return None
            received = await record_at(self.settings, INGEST.name, place.partition, place.offset)
        if received is None:
            return None
        record = codec.Record(key=received.key, value=received.value, headers=codec.headers_of(received.headers))
        return Submission(raw=await codec.whole_value(record, blobs=self.blobs), timestamp_ms=received.timestamp_ms)

    async def _records(self, key: DocumentKey, since_ms: int) -> AsyncIterator[codec.Record]:
        """Yield the records of a key, in order, to the end as it is now."""
        admin, wanted = Admin(self.settings), key.encode()
        ends = await admin.end_offsets(DOCUMENTS.name)
        partition = (murmur2(wanted) & 0x7FFFFFFF) % len(ends)
        start = await admin.offset_at(DOCUMENTS.name, partition, since_ms)
        if start is None:
            return
        async with PartitionReader(self.settings, DOCUMENTS.name, {partition: start}) as reader:
            async for item in reader:
                if isinstance(item, Received) and item.key == wanted:
                    headers = codec.headers_of(item.headers)
                    yield codec.Record(key=item.key, value=item.value, headers=headers)
                at = item.offset + 1 if isinstance(item, Received) else item.offset if isinstance(item, AtEnd) else 0
                if at >= ends[partition]:
                    return


@dataclass(frozen=True, kw_only=True)
class KafkaLetters:
    """`LetterRecords` of the operator stage."""

    settings: KafkaSettings

    async def read(self, place: Place) -> StoredRecord | None:
        """See `LetterRecords.read`."""
        topic = DEAD_LETTERS.named(place.stage).name
        with _translating(f"topic {topic!r}"):
            received = await record_at(self.settings, topic, place.partition, place.offset)
        if received is None:
            return None
        return StoredRecord(key=received.key, value=received.value, headers=received.headers)
