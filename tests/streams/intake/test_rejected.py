"""What a document shows after a bad submission."""

from schemas.ids import DocumentId, DocumentKey, Tenant
from streams.intake.rejected import Rejected
from streams.runtime.stage import DeadLetter
from tests.contract.factories import origin
from tests.doubles.clock import FrozenClock
from tests.doubles.document_store import MemoryDocuments
from tests.streams.intake.records import drained, published, said, submitted

GUIDE = DocumentKey(Tenant("acme"), DocumentId("guide"))
LETTER = DeadLetter(reason="not_json", message="The value is not JSON.", attempts=1)


async def test_the_document_fails_at_the_version_it_has() -> None:
    documents = MemoryDocuments()
    await documents.assign(GUIDE, origin(0), deleted=False, attributes={})

    outs = await drained(Rejected(documents=documents, clock=FrozenClock())(submitted(b"x", offset=1), LETTER))

    assert said(outs) == [("failed", 1, "not_json")]
    assert published(outs) == []
    assert documents.rows[GUIDE].status == "failed"
    assert documents.rows[GUIDE].latest_version == 1


async def test_a_late_redelivery_says_nothing() -> None:
    documents = MemoryDocuments()
    await documents.assign(GUIDE, origin(1), deleted=False, attributes={})

    assert await drained(Rejected(documents=documents, clock=FrozenClock())(submitted(b"x", offset=0), LETTER)) == []


async def test_a_record_without_a_key_belongs_to_no_document() -> None:
    documents = MemoryDocuments()

    assert await drained(Rejected(documents=documents, clock=FrozenClock())(submitted(b"x", key=None), LETTER)) == []
    assert documents.rows == {}
