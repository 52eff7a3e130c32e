"""What the topics of documents, chunks and embeddings hold, read from their beginning."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from confluent_kafka import KafkaException

from backbone.kafka import Admin, AtEnd, MissingTopic, PartitionReader, Received
from backbone.settings import KafkaSettings
from schemas import codec
from schemas.events import DocumentEmbedded
from schemas.ids import DocumentKey, InvalidId, parse_document_key
from schemas.topics import CHUNKS, DOCUMENTS, EMBEDDINGS
from streams.errors import Transient
from streams.operator.drift import Contents, Logged, Row

_HALF_BYTES = 2
Note = Callable[[DocumentKey, int, codec.Record], Awaitable[None]]


@contextmanager
def _translating(topic: str) -> Iterator[None]:
    try:
        yield
    except (KafkaException, MissingTopic, codec.BlobMissing, codec.Undecodable) as error:
        raise Transient(f"topic {topic!r} cannot be read: {error}", part="kafka") from error


@dataclass(kw_only=True)
class KafkaDrift:
    """`LogSide` on Kafka.

    Attributes:
        settings: how to reach Kafka.
        blobs: where values over 1 MiB are.
        chunker: of the generation.
        generation: whose embeddings are read.
        stages: (consumer group, topic) of the stages between acceptance and index.
    """

    settings: KafkaSettings
    blobs: codec.Blobs
    chunker: str
    generation: str
    stages: Sequence[tuple[str, str]]
    _logged: dict[DocumentKey, Logged] = field(default_factory=dict, init=False)
    _next: dict[str, dict[int, int]] = field(default_factory=dict, init=False)

    async def look(self) -> Mapping[DocumentKey, Logged]:
        """See `LogSide.look`."""
        await self._read(DOCUMENTS.name, partial(self._note, "accepted"))
        await self._read(CHUNKS.named(self.chunker).name, partial(self._note, "chunked"))
        await self._read(EMBEDDINGS.named(self.generation).name, partial(self._note, "embedded"))
        return self._logged

    async def lag(self) -> int:
        """See `LogSide.lag`."""
        admin = Admin(self.settings)
        with _translating("of the ingest lane"):
            return sum([sum((await admin.group_lag(group, [topic])).values()) for group, topic in self.stages])

    async def _note(self, what: str, key: DocumentKey, version: int, record: codec.Record) -> None:
        logged = self._logged.setdefault(key, Logged())
        setattr(logged, what, version)
        if what == "embedded":
            event = await codec.decode(record, DocumentEmbedded, blobs=self.blobs)
            logged.contents = None if event is None else await asyncio.to_thread(contents_of, event)

    async def _read(self, topic: str, note: Note) -> None:
        """Read on to the end as it is now."""
        with _translating(topic):
            admin = Admin(self.settings)
            firsts, ends = await admin.start_offsets(topic), await admin.end_offsets(topic)
            places = self._next.setdefault(topic, {})
            starts = {p: max(places.get(p, 0), firsts[p]) for p in ends}
            left = {p for p, start in starts.items() if start < ends[p]}
            places.update(ends)
            if not left:
                return
            async with PartitionReader(self.settings, topic, {p: starts[p] for p in left}) as reader:
                async for item in reader:
                    if isinstance(item, Received):
                        await self._take(item, note)
                    at = (
                        item.offset + 1 if isinstance(item, Received) else item.offset if isinstance(item, AtEnd) else 0
                    )
                    if at >= ends[item.partition]:
                        left.discard(item.partition)
                        reader.drop(item.partition)
                    if not left:
                        return

    async def _take(self, item: Received, note: Note) -> None:
        """Note a record; one that no stage of ours wrote is left out."""
        headers = codec.headers_of(item.headers)
        version = codec.version_of(headers)
        try:
            key = parse_document_key(item.key)
        except InvalidId:
            return
        if version is None:
            return
        try:
            await note(key, version, codec.Record(key=item.key, value=item.value, headers=headers))
        except codec.Undecodable:
            return


def contents_of(event: DocumentEmbedded) -> Contents:
    """Digest the chunks of an event."""
    vectors, sentences = base64.b64decode(event.vectors), base64.b64decode(event.sentence_vectors)
    width = event.dim * _HALF_BYTES

    def rows() -> Iterator[Row]:
        at = 0
        for n, chunk in enumerate(event.chunks):
            end = at + len(chunk.sentences) * width
            yield Row(
                chunk=chunk.id,
                text=chunk.text,
                start=chunk.start,
                end=chunk.end,
                headings=list(chunk.headings),
                sentences=[list(span) for span in chunk.sentences],
                page=chunk.page,
                vector=vectors[n * width : (n + 1) * width],
                sentence_vectors=sentences[at:end],
                collection=event.collection,
                metadata=event.metadata,
                acl=event.acl,
            )
            at = end

    return Contents.of(rows())
