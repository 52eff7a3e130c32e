"""A store that is older than the log: it is noticed, and learns."""

import pytest

from schemas.events import DocumentAccepted
from schemas.ids import DocumentId, DocumentKey, Tenant
from streams.errors import Fatal
from streams.intake.published import origins_in, publication
from streams.intake.restored import Learnt, Published, check_not_behind, learn
from tests.doubles.document_store import MemoryDocuments
from tests.doubles.published_log import MemoryDocumentLog

GUIDE = DocumentKey(Tenant("acme"), DocumentId("guide"))


def logged(version: int, *, deleted: bool = False) -> Published:
    event = None if deleted else accepted(version)
    origins = publication(GUIDE, version, event, {"t1/0": {"offset": version, "version": version}})
    return Published(
        key=GUIDE, version=version, event=event, origins=origins_in(origins.headers), at_ms=version * 1_000
    )


def accepted(version: int) -> DocumentAccepted:
    return DocumentAccepted(
        tenant="acme",
        document="guide",
        version=version,
        text="Hello.",
        content_type="text/plain",
        title=f"Title {version}",
        accepted_ms=1,
        submitted_ms=1,
    )


async def test_a_store_that_lacks_what_was_published_is_noticed_until_it_has_learnt() -> None:
    log, documents = MemoryDocumentLog(records=[logged(2), logged(3)]), MemoryDocuments()
    await learn(MemoryDocumentLog(records=[logged(2)]), documents, 0)

    with pytest.raises(Fatal, match=r"knows version 2 of 'acme/guide'.*holds version 3"):
        await check_not_behind(log, documents)
    assert await learn(log, documents, 3_000) == Learnt(n_read=1, n_learnt=1)
    await check_not_behind(log, documents)


async def test_what_is_learnt_is_listed_with_its_attributes() -> None:
    documents = MemoryDocuments()

    assert await learn(MemoryDocumentLog(records=[logged(1), logged(2)]), documents, 0) == Learnt(n_read=2, n_learnt=2)

    assert documents.rows[GUIDE].attributes["title"] == "Title 2"
    assert documents.rows[GUIDE].latest_version == 2


async def test_a_delete_is_learnt_and_learning_twice_changes_nothing() -> None:
    log, documents = MemoryDocumentLog(records=[logged(1), logged(2, deleted=True)]), MemoryDocuments()

    await learn(log, documents, 0)

    assert documents.rows[GUIDE].deleted
    assert await learn(log, documents, 0) == Learnt(n_read=2, n_learnt=0)


async def test_a_document_that_nobody_knows_yet_is_noticed() -> None:
    with pytest.raises(Fatal, match="knows version 0"):
        await check_not_behind(MemoryDocumentLog(records=[logged(1)]), MemoryDocuments())
