"""What a document stage says of a record that it gave up."""

from typing import Any

from schemas.events import DocumentAccepted, LifecycleChanged
from schemas.topics import LIFECYCLE
from streams.outcome import FailedDocument
from streams.runtime.record import Inbound, Origin, Outbound
from streams.runtime.stage import DeadLetter
from tests.doubles.clock import FrozenClock

LETTER = DeadLetter(reason="too_many_chunks", message="20001 chunks; at most 20000.", attempts=1)
FAILED = FailedDocument(stage="chunk", clock=FrozenClock(ms=7))
DOCUMENT = DocumentAccepted(
    tenant="acme",
    document="guide",
    version=3,
    text="x",
    content_type="text/plain",
    accepted_ms=1,
    submitted_ms=1,
)


def arrived(event: Any, *, key: bytes | None = b"acme/guide", version: int | None = None) -> Inbound[Any]:
    place = Origin(topic="rag.documents.v1", topic_id="t1", partition=0, offset=0)
    return Inbound(key=key, event=event, raw=None, origin=place, timestamp_ms=500, version=version)


async def test_the_version_fails_with_the_reason() -> None:
    outs = [out async for out in FAILED(arrived(DOCUMENT, version=3), LETTER)]

    event = LifecycleChanged(
        tenant="acme",
        document="guide",
        version=3,
        status="failed",
        stage="chunk",
        at_ms=7,
        reason="too_many_chunks",
        message="20001 chunks; at most 20000.",
    )
    assert outs == [Outbound(topic=LIFECYCLE, key=b"acme/guide", event=event, version=3)]


async def test_the_value_tells_the_version_where_the_header_does_not() -> None:
    [out] = [out async for out in FAILED(arrived(DOCUMENT), LETTER)]

    assert isinstance(out, Outbound) and out.version == 3


async def test_a_record_of_no_document_says_nothing() -> None:
    assert [out async for out in FAILED(arrived(None, key=b"poison", version=3), LETTER)] == []
    assert [out async for out in FAILED(arrived(None), LETTER)] == []
