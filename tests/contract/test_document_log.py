"""What every `Log` of intake and every `LetterRecords` does."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from backbone.kafka import Admin, Publisher, record_at
from backbone.settings import KafkaSettings
from schemas import codec
from schemas.events import DocumentAccepted
from schemas.ids import DocumentId, DocumentKey, Tenant
from schemas.topics import DEAD_LETTERS, DOCUMENTS, INGEST
from streams.adapters.kafka_log import KafkaLetters, KafkaLog
from streams.intake.reissue import Held, Log, Submission
from streams.operator.letters import Place, StoredRecord
from streams.runtime.record import Origin
from tests.doubles.blobs import MemoryBlobs
from tests.doubles.document_log import MemoryLog


@dataclass(frozen=True, kw_only=True)
class Topics:
    """A log, and how records get into it; `put` returns (time of production, place)."""

    log: Log
    accept: Callable[[DocumentKey, int, str | None], Awaitable[int]]
    submit: Callable[[DocumentKey, bytes | None], Awaitable[Origin]]


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


def in_memory() -> Topics:
    log, clock = MemoryLog(), iter(range(1_000, 1_000_000, 10))

    async def accept(key: DocumentKey, version: int, text: str | None) -> int:
        produced_ms = next(clock)
        held = Held(event=None if text is None else event(key, version, text))
        log.held[key, version] = (produced_ms, held)
        return produced_ms

    async def submit(key: DocumentKey, raw: bytes | None) -> Origin:
        place = Origin(topic=INGEST.name, topic_id="t1", partition=0, offset=next(clock))
        log.submissions[place] = Submission(raw=raw, timestamp_ms=0)
        return place

    return Topics(log=log, accept=accept, submit=submit)


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
async def topics(request: pytest.FixtureRequest) -> AsyncIterator[Topics]:
    if request.param == "double":
        yield in_memory()
        return
    settings, blobs = KafkaSettings(kafka_bootstrap=request.getfixturevalue("kafka")), MemoryBlobs()
    admin = Admin(settings)
    await admin.ensure_topics([DOCUMENTS, INGEST])
    ids = await admin.topic_ids([INGEST.name])
    async with Publisher(settings) as publisher:

        async def accept(key: DocumentKey, version: int, text: str | None) -> int:
            held = None if text is None else event(key, version, text)
            record = await codec.encode(held, key=key.encode(), source="/test", blobs=blobs, version=version)
            sent = await publisher.send(DOCUMENTS.name, key=record.key, value=record.value, headers=record.headers)
            return await read(settings, sent.partition, sent.offset)

        async def submit(key: DocumentKey, raw: bytes | None) -> Origin:
            sent = await publisher.send(INGEST.name, key=key.encode(), value=raw)
            return Origin(topic=INGEST.name, topic_id=ids[INGEST.name], partition=sent.partition, offset=sent.offset)

        yield Topics(log=KafkaLog(settings=settings, blobs=blobs), accept=accept, submit=submit)


async def read(settings: KafkaSettings, partition: int, offset: int) -> int:
    received = await record_at(settings, DOCUMENTS.name, partition, offset)
    assert received is not None
    return received.timestamp_ms


@pytest.fixture
def key() -> DocumentKey:
    return DocumentKey(Tenant("acme"), DocumentId(f"guide/{uuid.uuid4().hex}"))


async def test_a_version_is_found_from_when_it_was_produced_on(topics: Topics, key: DocumentKey) -> None:
    other = DocumentKey(key.tenant, DocumentId(f"{key.document}2"))
    first_ms = await topics.accept(key, 1, "First.")
    await topics.accept(other, 1, "Other.")
    second_ms = await topics.accept(key, 2, "Second.")

    assert await topics.log.accepted(key, 2, first_ms) == Held(event=event(key, 2, "Second."))
    assert await topics.log.accepted(key, 2, second_ms) == Held(event=event(key, 2, "Second."))
    assert await topics.log.accepted(key, 1, 0) == Held(event=event(key, 1, "First."))


async def test_a_version_that_deletes_is_found_too(topics: Topics, key: DocumentKey) -> None:
    await topics.accept(key, 3, None)

    assert await topics.log.accepted(key, 3, 0) == Held(event=None)


async def test_what_is_not_there_is_not_found(topics: Topics, key: DocumentKey) -> None:
    produced_ms = await topics.accept(key, 1, "First.")

    assert await topics.log.accepted(key, 2, 0) is None
    assert await topics.log.accepted(key, 1, produced_ms + 3_600_000) is None


async def test_a_large_version_is_found_whole(topics: Topics, key: DocumentKey) -> None:
    text = "x" * (codec.INLINE_MAX_BYTES + 1)
    await topics.accept(key, 1, text)

    held = await topics.log.accepted(key, 1, 0)

    assert held is not None and held.event is not None and held.event.text == text


async def test_a_submission_is_found_at_its_place(topics: Topics, key: DocumentKey) -> None:
    first, second = await topics.submit(key, b"{1}"), await topics.submit(key, None)

    found = [await topics.log.submission(place) for place in (first, second)]

    assert [each.raw for each in found if each is not None] == [b"{1}", None]


async def test_a_place_that_does_not_exist_holds_nothing(topics: Topics, key: DocumentKey) -> None:
    place = await topics.submit(key, b"{}")
    for elsewhere in (
        Origin(topic=place.topic, topic_id=place.topic_id, partition=place.partition, offset=place.offset + 1_000),
        Origin(topic=place.topic, topic_id="another", partition=place.partition, offset=place.offset),
    ):
        assert await topics.log.submission(elsewhere) is None


@pytest.mark.integration
async def test_a_dead_letter_is_read_byte_for_byte(kafka: str) -> None:
    settings, topic = KafkaSettings(kafka_bootstrap=kafka), DEAD_LETTERS.named("lifecycle")
    await Admin(settings).ensure_topics([topic])
    headers = [("a", None), ("a", b"\xff"), ("b", b"")]
    async with Publisher(settings) as publisher:
        sent = await publisher.send(topic.name, key=b"\x00", value=None, headers=headers)
    letters = KafkaLetters(settings=settings)

    assert await letters.read(Place(stage="lifecycle", partition=0, offset=sent.offset)) == StoredRecord(
        key=b"\x00", value=None, headers=headers
    )
    assert await letters.read(Place(stage="lifecycle", partition=0, offset=sent.offset + 5)) is None
