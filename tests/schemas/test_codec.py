import hashlib

import pytest

from schemas.codec import (
    INLINE_MAX_BYTES,
    BlobMissing,
    Record,
    Undecodable,
    decode,
    encode,
    headers_of,
    version_of,
    whole_value,
)
from schemas.events import DocumentSubmitted, LifecycleChanged


class Shelf:
    """Blobs in a dictionary."""

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}

    async def put(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        self.blobs[name] = data
        return name

    async def get(self, sha256: str) -> bytes:
        if sha256 not in self.blobs:
            raise BlobMissing(sha256)
        return self.blobs[sha256]


async def encoded(event: DocumentSubmitted | None, shelf: Shelf, version: int | None = None) -> Record:
    return await encode(event, key=b"acme/a", source="/headrace/test", blobs=shelf, version=version)


async def test_an_event_is_read_back_as_it_was_written() -> None:
    shelf = Shelf()
    event = DocumentSubmitted(text="Grüße", metadata={"n": 1, "tags": ["a"]})

    record = await encoded(event, shelf)

    assert record.value == '{"text":"Grüße","metadata":{"n":1,"tags":["a"]}}'.encode()
    assert await decode(record, DocumentSubmitted, blobs=shelf) == event
    assert shelf.blobs == {}


async def test_headers_are_cloudevents_in_binary_mode_with_trace_and_version() -> None:
    record = await encoded(DocumentSubmitted(text="x"), Shelf(), version=7)

    assert record.headers["ce_specversion"] == b"1.0"
    assert record.headers["ce_type"] == b"headrace.DocumentSubmitted.v1"
    assert record.headers["ce_source"] == b"/headrace/test"
    assert record.headers["content-type"] == b"application/json"
    assert record.headers["traceparent"].startswith(b"00-")
    assert set(record.headers) >= {"ce_id", "ce_time"}
    assert version_of(record.headers) == 7


async def test_a_tombstone_carries_its_version_too() -> None:
    record = await encoded(None, Shelf(), version=8)

    assert record.value is None
    assert version_of(record.headers) == 8
    assert await decode(record, DocumentSubmitted, blobs=Shelf()) is None


@pytest.mark.parametrize(("n_chars", "n_blobs"), [(INLINE_MAX_BYTES - 11, 0), (INLINE_MAX_BYTES - 10, 1)])
async def test_a_value_over_1_mib_goes_to_the_store_and_comes_back(n_chars: int, n_blobs: int) -> None:
    shelf = Shelf()
    event = DocumentSubmitted(text="x" * n_chars)

    record = await encoded(event, shelf)

    assert len(shelf.blobs) == n_blobs
    assert record.value is not None
    assert len(record.value) <= INLINE_MAX_BYTES
    assert await decode(record, DocumentSubmitted, blobs=shelf) == event


async def test_a_value_that_the_store_has_lost_is_not_an_empty_event() -> None:
    record = await encoded(DocumentSubmitted(text="x" * INLINE_MAX_BYTES), Shelf())

    with pytest.raises(BlobMissing):
        await whole_value(record, blobs=Shelf())


@pytest.mark.parametrize("value", [b"", b"not json", b"[1]", b'{"text": 5}', b"\xff\xfe", b'{"text": "\xff"}'])
async def test_what_is_no_event_is_undecodable_and_says_of_what_kind(value: bytes) -> None:
    with pytest.raises(Undecodable, match="not a DocumentSubmitted"):
        await decode(Record(key=b"k", value=value), DocumentSubmitted, blobs=Shelf())


async def test_unknown_fields_and_words_are_let_through() -> None:
    value = b'{"tenant":"t","document":"d","version":1,"status":"paused","stage":"x","at_ms":5,"mood":"good"}'

    event = await decode(Record(key=b"k", value=value), LifecycleChanged, blobs=Shelf())

    assert event is not None
    assert event.status == "paused"


@pytest.mark.parametrize(
    ("headers", "version"), [({}, None), ({"hr_version": b"12"}, 12), ({"hr_version": b"x"}, None)]
)
def test_a_version_that_is_no_number_is_none(headers: dict[str, bytes], version: int | None) -> None:
    assert version_of(headers) == version


def test_the_last_of_a_repeated_header_wins() -> None:
    assert headers_of([("a", b"1"), ("a", b"2"), ("b", None)]) == {"a": b"2", "b": b""}
    assert headers_of(None) == {}
