"""What every `DocumentLog` does."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from backbone.kafka import Admin, Publisher, record_at
from backbone.settings import KafkaSettings
from schemas import codec
from schemas.events import DocumentAccepted
from schemas.ids import DocumentId, DocumentKey, Tenant
from schemas.topics import DOCUMENTS
from streams.adapters.kafka_documents import KafkaDocuments
from streams.intake.published import publication
from streams.intake.restored import DocumentLog, Published
from streams.ports import Origins
from tests.doubles.blobs import MemoryBlobs
from tests.doubles.published_log import MemoryDocumentLog

ORIGINS: Origins = {"t1/0": {"offset": 7, "version": 2}, "t1/3": {"offset": 1, "version": 1, "rejected": True}}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A log, and how versions get into it; `publish` returns what must come out."""

    log: DocumentLog
    publish: Callable[[DocumentKey, int, str | None, Origins], Awaitable[Published]]


def event(key: DocumentKey, version: int, text: str) -> DocumentAccepted:
    return DocumentAccepted(
        tenant=key.tenant,
        document=key.document,
        version=version,
        text=text,
        content_type="text/plain",
        accepted_ms=1,
        submitted_ms=1,
    )


def in_memory() -> Bench:
    log, clock = MemoryDocumentLog(), iter(range(1_000, 1_000_000, 10))

    async def publish(key: DocumentKey, version: int, text: str | None, origins: Origins) -> Published:
        document = None if text is None else event(key, version, text)
        log.records.append(Published(key=key, version=version, event=document, origins=origins, at_ms=next(clock)))
        return log.records[-1]

    return Bench(log=log, publish=publish)


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    if request.param == "double":
        yield in_memory()
        return
    settings, blobs = KafkaSettings(kafka_bootstrap=request.getfixturevalue("kafka")), MemoryBlobs()
    await Admin(settings).ensure_topics([DOCUMENTS])
    async with Publisher(settings) as publisher:

        async def publish(key: DocumentKey, version: int, text: str | None, origins: Origins) -> Published:
            document = None if text is None else event(key, version, text)
            out = publication(key, version, document, origins)
            record = await codec.encode(document, key=out.key, source="/test", blobs=blobs, version=version)
            headers = {**record.headers, **out.headers}
            sent = await publisher.send(DOCUMENTS.name, key=record.key, value=record.value, headers=headers)
            received = await record_at(settings, DOCUMENTS.name, sent.partition, sent.offset)
            assert received is not None
            return Published(key=key, version=version, event=document, origins=origins, at_ms=received.timestamp_ms)

        yield Bench(log=KafkaDocuments(settings=settings, blobs=blobs), publish=publish)


@pytest.fixture
def key() -> DocumentKey:
    return DocumentKey(Tenant("acme"), DocumentId(f"guide/{uuid.uuid4().hex}"))


async def since(bench: Bench, key: DocumentKey, timestamp_ms: int) -> list[Published]:
    return [published async for published in bench.log.since(timestamp_ms) if published.key == key]


async def test_all_that_was_published_since_a_time_comes_whole_and_in_order(bench: Bench, key: DocumentKey) -> None:
    first = await bench.publish(key, 1, "First.", {})
    second = await bench.publish(key, 2, "x" * (codec.INLINE_MAX_BYTES + 1), ORIGINS)
    third = await bench.publish(key, 3, None, ORIGINS)

    assert await since(bench, key, first.at_ms) == [first, second, third]
    assert (await since(bench, key, third.at_ms))[-1] == third
    assert await since(bench, key, third.at_ms + 3_600_000) == []


async def test_the_newest_versions_are_told(bench: Bench, key: DocumentKey) -> None:
    await bench.publish(key, 1, "First.", {})
    await bench.publish(key, 2, None, ORIGINS)

    assert (key, 2) in await bench.log.newest()
