"""Intake as a function of a record."""

import pytest

from schemas.events import DocumentAccepted, LifecycleChanged
from schemas.ids import DocumentId, DocumentKey, Tenant
from schemas.topics import DOCUMENTS
from streams.errors import Unprocessable
from streams.intake.handler import Intake
from streams.intake.uri_source import Fetched
from streams.runtime.record import FLUSH, Outbound
from tests.doubles.clock import FrozenClock
from tests.doubles.document_log import MemoryLog
from tests.doubles.document_store import MemoryDocuments
from tests.doubles.uri_source import MemoryUriSource
from tests.streams.intake.records import drained, published, said, submitted

GUIDE = DocumentKey(Tenant("acme"), DocumentId("guide"))


def intake(
    documents: MemoryDocuments | None = None, uris: MemoryUriSource | None = None, log: MemoryLog | None = None
) -> Intake:
    return Intake(
        documents=documents or MemoryDocuments(),
        uris=uris or MemoryUriSource(),
        clock=FrozenClock(ms=1_000),
        log=log or MemoryLog(),
        document_max_bytes=1_000,
    )


async def test_a_good_record_becomes_an_accepted_document() -> None:
    raw = b'{"text": "Hello.", "title": "T", "collection": "books", "metadata": {"a": 1}, "acl": ["staff"]}'

    outs = await drained(intake()(submitted(raw)))

    assert said(outs) == [("accepted", 1, None)]
    assert published(outs) == [
        Outbound(
            topic=DOCUMENTS,
            key=b"acme/guide",
            version=1,
            headers={"hr_origins": b'{"t1/0":{"offset":0,"version":1}}'},
            event=DocumentAccepted(
                tenant="acme",
                document="guide",
                version=1,
                text="Hello.",
                content_type="text/plain",
                collection="books",
                title="T",
                metadata={"a": 1},
                acl=["staff"],
                accepted_ms=1_000,
                submitted_ms=500,
            ),
        )
    ]
    assert outs[-1] is FLUSH


async def test_a_mistyped_acl_does_not_pass_in_silence() -> None:
    outs = await drained(intake()(submitted(b'{"text": "Hello.", "acll": ["staff"]}')))

    assert said(outs) == [("accepted", 1, None), ("warned", 1, "unknown_field")]
    warning = outs[1]
    assert isinstance(warning, Outbound) and isinstance(warning.event, LifecycleChanged)
    assert warning.event.message is not None and "'acll'" in warning.event.message


async def test_a_null_value_deletes_at_a_version_of_its_own() -> None:
    handler = intake()
    await drained(handler(submitted(b'{"text": "Hello."}')))

    outs = await drained(handler(submitted(None, offset=1)))

    assert said(outs) == [("deleted", 2, None)]
    origins = b'{"t1/0":{"offset":1,"version":2}}'
    assert published(outs) == [
        Outbound(topic=DOCUMENTS, key=b"acme/guide", event=None, version=2, headers={"hr_origins": origins})
    ]


async def test_the_same_record_is_published_again_at_the_same_version() -> None:
    handler = intake()
    first = await drained(handler(submitted(b'{"text": "Hello."}')))

    assert await drained(handler(submitted(b'{"text": "Hello."}'))) == first


async def test_a_redelivery_of_an_older_record_is_dropped() -> None:
    handler = intake()
    await drained(handler(submitted(b'{"text": "one"}', offset=0)))
    await drained(handler(submitted(b'{"text": "two"}', offset=1)))

    assert await drained(handler(submitted(b'{"text": "one"}', offset=0))) == []


async def test_an_older_version_that_comes_again_is_superseded_and_not_published() -> None:
    handler = intake()
    await drained(handler(submitted(b'{"text": "one"}', partition=0)))
    await drained(handler(submitted(b'{"text": "two"}', partition=1)))

    outs = await drained(handler(submitted(b'{"text": "one"}', partition=0)))

    assert said(outs) == [("superseded", 1, None)]
    assert published(outs) == []


async def test_the_document_stays_locked_until_the_publication_is_acknowledged() -> None:
    documents = MemoryDocuments()
    outs = intake(documents)(submitted(b'{"text": "Hello."}'))

    locked = [documents.locks[GUIDE].locked() async for _ in outs]

    assert locked == [True, True, True]
    assert not documents.locks[GUIDE].locked()


async def test_a_uri_is_fetched_and_its_text_travels() -> None:
    uris = MemoryUriSource(held={"https://a.example/x": Fetched(text="# Hello", content_type="text/markdown")})

    outs = await drained(intake(uris=uris)(submitted(b'{"uri": "https://a.example/x"}')))

    [out] = published(outs)
    assert isinstance(out.event, DocumentAccepted)
    assert (out.event.text, out.event.uri, out.event.content_type) == (
        "# Hello",
        "https://a.example/x",
        "text/markdown",
    )


async def test_a_file_travels_as_it_came() -> None:
    documents = MemoryDocuments()
    raw = b'{"content": "JVBERi0=", "filename": "plan.pdf", "content_type": "application/octet-stream"}'

    outs = await drained(intake(documents)(submitted(raw)))

    [out] = published(outs)
    assert isinstance(out.event, DocumentAccepted)
    assert (out.event.text, out.event.content, out.event.filename) == ("", b"%PDF-", "plan.pdf")
    assert out.event.content_type == "application/pdf"
    assert documents.rows[GUIDE].attributes["n_bytes"] == 5


async def test_what_a_uri_names_may_be_a_file() -> None:
    fetched = Fetched(content=b"%PDF-", content_type="application/octet-stream")
    uris = MemoryUriSource(held={"https://a.example/my%20plan.pdf?v=1": fetched})

    outs = await drained(intake(uris=uris)(submitted(b'{"uri": "https://a.example/my%20plan.pdf?v=1"}')))

    [out] = published(outs)
    assert isinstance(out.event, DocumentAccepted)
    assert (out.event.content, out.event.content_type) == (b"%PDF-", "application/pdf")


@pytest.mark.parametrize(
    ("key", "raw", "reason"),
    [
        (None, b'{"text": "x"}', "bad_key"),
        (b"guide", b'{"text": "x"}', "bad_key"),
        (b"ACME/guide", b'{"text": "x"}', "bad_key"),
        (b"acme/\xff", b'{"text": "x"}', "bad_key"),
        (b"acme/a\x00b", b'{"text": "x"}', "bad_key"),
        (b"acme/guide", b"no json", "not_json"),
        (b"acme/guide", b'{"text": " "}', "empty"),
        (b"acme/guide", b'{"text": "a\\u0000b"}', "nul_character"),
        (b"acme/guide", b'{"text": "x", "content_type": "image/png"}', "unsupported_content_type"),
        (b"acme/guide", b'{"uri": "file:///etc/passwd"}', "uri_refused"),
        (b"acme/guide", b'{"text": "' + b"x" * 1_001 + b'"}', "too_large"),
        (b"acme/guide", b'{"content": "' + b"eHh4" * 334 + b'"}', "too_large"),
        (b"acme/guide", b'{"content": ""}', "empty"),
        (b"acme/guide", b'{"content": "eA==", "content_type": "image/png"}', "unsupported_content_type"),
    ],
)
async def test_a_bad_record_spends_no_version(key: bytes | None, raw: bytes, reason: str) -> None:
    documents = MemoryDocuments()

    with pytest.raises(Unprocessable) as caught:
        await drained(intake(documents)(submitted(raw, key=key)))

    assert caught.value.reason == reason
    assert documents.rows == {}
