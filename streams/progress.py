"""What every document stage does alike: read off which version a record is about, and say how far it came."""

from typing import Any

from schemas.events import LifecycleChanged
from schemas.ids import DocumentKey, InvalidId, parse_document_key
from schemas.topics import LIFECYCLE
from streams.errors import Unprocessable
from streams.ports import Clock, DocumentStore
from streams.runtime.record import Inbound, Outbound


def key_of(record: Inbound[Any]) -> DocumentKey:
    """Return the document that a record is about.

    Raises:
        Unprocessable: the key is not a document's.
    """
    try:
        return parse_document_key(record.key)
    except InvalidId as error:
        raise Unprocessable("bad_key", str(error)) from error


def place_of(record: Inbound[Any]) -> tuple[DocumentKey, int]:
    """Return document and version of a record of a topic that Headrace alone writes.

    Raises:
        Unprocessable: key and value do not agree, or a tombstone has no version.
    """
    key, event = key_of(record), record.event
    if event is None:
        if record.version is None:
            raise Unprocessable("no_version", "a tombstone without a version header cannot be put in order")
        return key, record.version
    if (event.tenant, event.document) != (key.tenant, key.document):
        raise Unprocessable(
            "bad_key", f"the key is {str(key)!r}, the value speaks of {event.tenant}/{event.document!r}"
        )
    return key, int(event.version)


async def is_superseded(documents: DocumentStore, key: DocumentKey, version: int) -> bool:
    """Tell whether a newer version of the document exists; asked just before publishing.

    Compaction keeps the last record of a key, not the one of the highest version.
    """
    latest = await documents.latest_version(key)
    return latest is not None and latest > version


def became(
    status: str,
    key: DocumentKey,
    version: int,
    *,
    stage: str,
    clock: Clock,
    generation: str | None = None,
    n_chunks: int | None = None,
    reason: str | None = None,
    message: str | None = None,
) -> Outbound:
    """Say in the lifecycle topic that a version has reached a status; see `LifecycleChanged`."""
    event = LifecycleChanged(
        tenant=key.tenant,
        document=key.document,
        version=version,
        status=status,
        stage=stage,
        at_ms=clock.now_ms(),
        generation=generation,
        n_chunks=n_chunks,
        reason=reason,
        message=message,
    )
    return Outbound(topic=LIFECYCLE, key=key.encode(), event=event, version=version)
