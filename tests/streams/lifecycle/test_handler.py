"""The projection as a function of a record."""

from schemas.events import LifecycleChanged
from schemas.ids import DocumentId, DocumentKey, Tenant
from streams.lifecycle.handler import Project
from streams.runtime.record import Inbound, Origin
from tests.contract.factories import origin
from tests.doubles.document_store import MemoryDocuments
from tests.doubles.status_projection import MemoryStatus

GUIDE = DocumentKey(Tenant("acme"), DocumentId("guide"))


def arrived(event: LifecycleChanged | None) -> Inbound[LifecycleChanged]:
    place = Origin(topic="rag.lifecycle.v1", topic_id="t1", partition=0, offset=0)
    return Inbound(key=b"acme/guide", event=event, raw=None, origin=place, timestamp_ms=500)


async def test_an_event_becomes_the_status_and_nothing_is_published() -> None:
    documents = MemoryDocuments()
    await documents.assign(GUIDE, origin(0), deleted=False, attributes={})
    project = Project(status=MemoryStatus(documents=documents))
    event = LifecycleChanged(tenant="acme", document="guide", version=1, status="chunked", stage="chunk", at_ms=1)

    assert [out async for out in project(arrived(event))] == []
    assert [out async for out in project(arrived(None))] == []
    assert documents.rows[GUIDE].status == "chunked"
