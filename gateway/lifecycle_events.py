"""Event streams of what becomes of documents."""

import re
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Response

from gateway.auth import Authenticated, Caller
from gateway.documents import InPath, ServicesOf, Submitted, check_collection, standing
from gateway.log.follower import OutOfLog
from gateway.log.memory import Kept
from gateway.log.merged import Merged, follow_all
from gateway.models import LifecycleShown
from gateway.ports import DocumentRow, Services
from gateway.problems import Problem, invalid
from gateway.sse import EventStream
from schemas.codec import BlobMissing, Undecodable, decode
from schemas.events import LifecycleChanged
from schemas.topics import LIFECYCLE

router = APIRouter(prefix="/v1", tags=["documents"])
_PLACES: Final = r"\d{1,9}:\d{1,18}(,\d{1,9}:\d{1,18}){0,99}"
_BATCH: Final = 100
"""Changes whose documents are looked up together."""

_EXAMPLE: Final = (
    "id: 0:12,1:40,2:7\nevent: state\n"
    'data: {"id": "manual/gates.md", "status": "accepted", "latest_version": 3, "live_version": 2}\n\n'
    "id: 0:12,1:41,2:7\nevent: indexed\n"
    'data: {"id": "manual/gates.md", "status": "indexed", "stage": "index", "version": 3, "n_chunks": 4}\n\n'
)
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The events", "content": {"text/event-stream": {"example": _EXAMPLE}}}
}

LastEventId = Annotated[
    str | None, Header(description="`id` of the last event that was read; the stream goes on after it")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LifecycleEvent:
    """One event. `place` holds, for each partition, the first offset that was not told yet."""

    name: str
    data: Mapping[str, Any]
    place: str | None = None


@router.get("/documents/{document}/events", status_code=200, response_class=EventStream, responses=_RESPONSES)
async def document_events(
    document: InPath,
    caller: Authenticated,
    services: ServicesOf,
    submission: Submitted = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Follow a document: `state` as it stands, then a change as it reaches a stage, named by its status.

    Those are accepted, chunked, embedded, indexed, deleted, superseded, failed and warned. `reset`: changes are gone
    that were to come; look at the document. The stream stays open until the caller leaves. With `submission`, it may
    begin before the document is known.
    """
    positions = _positions(last_event_id)
    await standing(services, caller, document, submission)
    services.streams.take()
    return EventStream(services.streams, _document_events(services, caller, document, submission, positions))


@router.get("/lifecycle/events", status_code=200, response_class=EventStream, responses=_RESPONSES)
async def collection_events(
    caller: Authenticated,
    services: ServicesOf,
    collection: Annotated[str | None, Query(max_length=256, description="only documents of this collection")] = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Follow all documents that the caller may read: `begin`, then each change, named by its status.

    `reset`: changes are gone that were to come; list the documents. The stream stays open until the caller leaves.
    """
    check_collection(collection)
    positions = _positions(last_event_id)
    services.streams.take()
    return EventStream(services.streams, _collection_events(services, caller, collection, positions))


async def _document_events(
    services: Services, caller: Caller, document: str, submission: str | None, positions: Mapping[int, int]
) -> AsyncGenerator[LifecycleEvent, None]:
    with follow_all(services.lifecycle, range(LIFECYCLE.partitions), caller.tenant.encode()) as changes:
        await changes.go_to(positions)
        # Read after the place is fixed, so that what changes meanwhile is told.
        try:
            state = await standing(services, caller, document, submission)
        except Problem:
            return
        yield LifecycleEvent(name="state", data=state.model_dump(mode="json"), place=_place(changes.positions))
        async for event in _changes(services, caller, changes, lambda row: row.id == document):
            yield event


async def _collection_events(
    services: Services, caller: Caller, collection: str | None, positions: Mapping[int, int]
) -> AsyncGenerator[LifecycleEvent, None]:
    with follow_all(services.lifecycle, range(LIFECYCLE.partitions), caller.tenant.encode()) as changes:
        await changes.go_to(positions)
        yield LifecycleEvent(name="begin", data={"collection": collection}, place=_place(changes.positions))
        async for event in _changes(
            services, caller, changes, lambda row: collection in (None, row.attributes["collection"])
        ):
            yield event


async def _changes(
    services: Services, caller: Caller, changes: Merged, wanted: Callable[[DocumentRow], bool]
) -> AsyncGenerator[LifecycleEvent, None]:
    while True:
        told = changes.positions
        try:
            records = await changes.next(_BATCH)
        except OutOfLog:
            yield LifecycleEvent(name="reset", data={})
            continue
        events = [(each, await _read(services, caller, each)) for each in records]
        documents = {event.document for _, event in events if event is not None}
        try:
            rows = await services.documents.find(caller, sorted(documents))
            serving = await services.questions.generation()
        except Problem:
            # Nobody says who may read what; the reader comes again and goes on from here.
            return
        for record, event in events:
            told[record.partition] = record.offset + 1
            row = None if event is None else rows.get(event.document)
            if event is None or event.generation not in (None, serving):
                # what becomes of it in another generation is nothing that readers see
                continue
            if row is not None and row.readable and wanted(row):
                yield LifecycleEvent(name=event.status, data=_shown(event), place=_place(told))


async def _read(services: Services, caller: Caller, record: Kept) -> LifecycleChanged | None:
    try:
        event = await decode(record.wire(), LifecycleChanged, blobs=services.blobs)
    except (Undecodable, BlobMissing, OSError):
        return None
    return event if event is not None and event.tenant == caller.tenant else None


def _shown(event: LifecycleChanged) -> Mapping[str, Any]:
    return LifecycleShown(
        id=event.document,
        status=event.status,
        stage=event.stage,
        version=event.version,
        generation=event.generation,
        n_chunks=event.n_chunks,
        reason=event.reason,
        message=event.message,
        at=datetime.fromtimestamp(event.at_ms / 1000, UTC),
    ).model_dump(mode="json")


def _place(positions: Mapping[int, int]) -> str:
    return ",".join(f"{partition}:{offset}" for partition, offset in sorted(positions.items()))


def _positions(last_event_id: str | None) -> dict[int, int]:
    if last_event_id is None:
        return {}
    if not re.fullmatch(_PLACES, last_event_id):
        expected = "expected the id of an event of such a stream, as '0:12,1:40', or no such header"
        raise invalid("header Last-Event-ID", expected, last_event_id)
    places = (place.split(":") for place in last_event_id.split(","))
    return {int(partition): int(offset) for partition, offset in places}
