"""The wire format: JSON values, CloudEvents headers (Kafka binary mode), W3C trace context, and the claim check.

A value over `INLINE_MAX_BYTES` goes to the object store under its SHA-256 and the record carries the name instead;
both ways
happen here, so no stage knows.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import msgspec
import uuid_utils

from schemas.events import Event

INLINE_MAX_BYTES = 1024 * 1024
VERSION_HEADER = "hr_version"
BLOB_HEADER = "hr_blob"
TRACE_HEADER = "traceparent"
REISSUE_HEADER = "hr_reissue"
"""Version of a document that is done again, on the request and on all that follows from it."""
ORIGIN_HEADER = "hr_origin"
"""Place of the submission that a redriven record was first: `<topic id>/<partition>/<offset>`."""
ORIGINS_HEADER = "hr_origins"
"""JSON on a record of the documents topic: the submissions that the document was made of, as `documents.origins`."""

E = TypeVar("E", bound=Event)
_encoder = msgspec.json.Encoder()


class Undecodable(ValueError):
    """A value is not what its topic holds; the message says what is wrong and where."""


class BlobMissing(LookupError):
    """The object store has no object of this name."""


class Blobs(Protocol):
    """A store of immutable byte strings, named by their SHA-256 (64 hexadecimal digits)."""

    async def put(self, data: bytes) -> str:
        """Store data durably and return its name; storing the same bytes again is free and harmless."""
        ...

    async def get(self, sha256: str) -> bytes:
        """Return the bytes of that name.

        Raises:
            BlobMissing: there is none, or the name is not a SHA-256.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record as it stands on the wire."""

    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes] = field(default_factory=dict)


def new_traceparent() -> str:
    """Return a W3C `traceparent` that starts a trace (sampled)."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


async def encode(
    event: Event | None,
    *,
    key: bytes | None,
    source: str,
    blobs: Blobs,
    version: int | None = None,
    traceparent: str | None = None,
    reissue: int | None = None,
) -> Record:
    """Make a record of an event.

    Args:
        event: what to send; None is a tombstone (the key is deleted).
        key: record key.
        source: who sends, as `/headrace/<stage or gateway>` (`ce_source`).
        blobs: takes the value when it is over INLINE_MAX_BYTES.
        version: of the document; in a header, so that tombstones carry it too.
        traceparent: trace to go on with; a new one begins otherwise.
        reissue: version of the document that is done again.
    """
    kind = type(event).__name__ if event is not None else "DocumentDeleted"
    headers = {
        "ce_specversion": b"1.0",
        "ce_id": str(uuid_utils.uuid7()).encode(),
        "ce_type": f"headrace.{kind}.v1".encode(),
        "ce_source": source.encode(),
        "ce_time": datetime.now(UTC).isoformat(timespec="milliseconds").encode(),
        "content-type": b"application/json",
        TRACE_HEADER: (traceparent or new_traceparent()).encode(),
    }
    if version is not None:
        headers[VERSION_HEADER] = str(version).encode()
    if reissue is not None:
        headers[REISSUE_HEADER] = str(reissue).encode()
    value = None if event is None else _encoder.encode(event)
    if value is not None and len(value) > INLINE_MAX_BYTES:
        headers[BLOB_HEADER] = (await blobs.put(value)).encode()
        value = b"{}"
    return Record(key=key, value=value, headers=headers)


async def whole_value(record: Record, *, blobs: Blobs) -> bytes | None:
    """Return the value of a record, fetched from the object store where the record holds only its name.

    Raises:
        BlobMissing: the object store has lost it.
    """
    name = record.headers.get(BLOB_HEADER)
    if record.value is None or name is None:
        return record.value
    return await blobs.get(name.decode("ascii", "replace"))


async def decode(record: Record, event: type[E], *, blobs: Blobs) -> E | None:
    """Read an event back; None for a tombstone. Unknown fields are ignored.

    Raises:
        Undecodable: not JSON, or not the shape of `event`.
        BlobMissing: the object store has lost the value.
    """
    value = await whole_value(record, blobs=blobs)
    if value is None:
        return None
    try:
        return msgspec.json.decode(value, type=event)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Undecodable(f"not a {event.__name__}: {error}") from error


def version_of(headers: Mapping[str, bytes]) -> int | None:
    """Return the document version in a record's headers; None where there is none or it is no number."""
    return _number(headers, VERSION_HEADER)


def reissue_of(headers: Mapping[str, bytes]) -> int | None:
    """Return the version that is done again, from a record's headers; None where it is not, or it is no number."""
    return _number(headers, REISSUE_HEADER)


def _number(headers: Mapping[str, bytes], name: str) -> int | None:
    raw = headers.get(name)
    return int(raw) if raw is not None and raw.isdigit() else None


def headers_of(pairs: Sequence[tuple[str, bytes | None]] | None) -> dict[str, bytes]:
    """Make a mapping of Kafka's header list; the last of a repeated name wins, null values count as empty."""
    return {name: value or b"" for name, value in pairs or ()}
