"""The documents topic as a log of versions, for a database that has forgotten some of them."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaException

from backbone.kafka import Admin, AtEnd, Last, MissingTopic, PartitionReader, Received, Start
from backbone.settings import KafkaSettings
from schemas import codec
from schemas.events import DocumentAccepted
from schemas.ids import DocumentKey, InvalidId, parse_document_key
from schemas.topics import DOCUMENTS
from streams.errors import Transient
from streams.intake.published import origins_in
from streams.intake.restored import Published

_NEWEST: Final = 10
"""Offsets of each partition that are looked at; the last record of a partition is never compacted away."""


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (KafkaException, MissingTopic) as error:
        raise Transient(f"topic {DOCUMENTS.name!r} cannot be read: {error}", part="kafka") from error


def _place(item: Received) -> tuple[DocumentKey, int] | None:
    """Return document and version; None of a record that intake did not write, which the chunk stage gives up."""
    version = codec.version_of(codec.headers_of(item.headers))
    try:
        return None if version is None else (parse_document_key(item.key), version)
    except InvalidId:
        return None


@dataclass(frozen=True, kw_only=True)
class KafkaDocuments:
    """`DocumentLog` on Kafka."""

    settings: KafkaSettings
    blobs: codec.Blobs

    async def since(self, timestamp_ms: int) -> AsyncIterator[Published]:
        """See `DocumentLog.since`."""
        admin = Admin(self.settings)
        with _translating():
            partitions = await admin.end_offsets(DOCUMENTS.name)
            found = {p: await admin.offset_at(DOCUMENTS.name, p, timestamp_ms) for p in partitions}
        async for key, version, received in self._read(
            {p: offset for p, offset in found.items() if offset is not None}
        ):
            headers = codec.headers_of(received.headers)
            record = codec.Record(key=received.key, value=received.value, headers=headers)
            yield Published(
                key=key,
                version=version,
                event=await codec.decode(record, DocumentAccepted, blobs=self.blobs),
                origins=origins_in(headers),
                at_ms=received.timestamp_ms,
            )

    async def newest(self) -> list[tuple[DocumentKey, int]]:
        """See `DocumentLog.newest`."""
        with _translating():
            starts = dict.fromkeys(await Admin(self.settings).end_offsets(DOCUMENTS.name), Last(_NEWEST))
        return [(key, version) async for key, version, _ in self._read(starts)]

    async def _read(self, starts: Mapping[int, Start]) -> AsyncIterator[tuple[DocumentKey, int, Received]]:
        """Yield what stands from these places to the ends."""
        if not starts:
            return
        left = set(starts)
        with _translating():
            async with PartitionReader(self.settings, DOCUMENTS.name, starts) as reader:
                async for item in reader:
                    if isinstance(item, Received):
                        place = _place(item)
                        if place is not None:
                            yield *place, item
                    elif isinstance(item, AtEnd):
                        left.discard(item.partition)
                        if not left:
                            return
