"""Routes of documents."""

import base64
import binascii
import json
from hashlib import sha256
from typing import Annotated, Any, Final
from urllib.parse import unquote_to_bytes

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response

from gateway.auth import Authenticated, Caller
from gateway.idempotency import IdempotencyKey, IdOf, once
from gateway.models import (
    DocumentDescription,
    DocumentPage,
    DocumentPatch,
    IngestRequest,
    IngestResponse,
    LookupRequest,
    LookupResponse,
    Receipt,
    SubmittedDocument,
)
from gateway.ports import DocumentRow, Services
from gateway.problems import Problem, invalid, unavailable
from gateway.submit import Submission, submit
from gateway.trace import Traceparent
from gateway.uploads import Uploaded
from schemas.codec import BlobMissing
from schemas.events import DocumentSubmitted
from schemas.ids import DocumentId, DocumentKey, InvalidId, Tenant, parse_document_id

router = APIRouter(prefix="/v1", tags=["documents"])
_SUBMISSION: Final = r"^\d{1,9}:\d{1,18}$"
STATUSES: Final = ("accepted", "chunked", "embedded", "indexed", "deleted", "failed")


async def services_of(request: Request) -> Services:
    """Return what the application was started with.

    Like every dependency of a route it is async: FastAPI runs others in threads, which costs more than they do.
    """
    services: Services = request.app.state.services
    return services


ServicesOf = Annotated[Services, Depends(services_of)]


async def document_in_path(
    document: Annotated[str, Path(description="document id, percent-encoded ('/' as %2F)", examples=["a%2Fb.md"])],
) -> DocumentId:
    """Return the document id of the path.

    Raises:
        Problem: 422, no valid id.
    """
    try:
        return parse_document_id(unquote_to_bytes(document).decode())
    except (InvalidId, UnicodeDecodeError) as error:
        raise invalid("path parameter document", str(error), document) from error


InPath = Annotated[DocumentId, Depends(document_in_path)]
Submitted = Annotated[str | None, Query(pattern=_SUBMISSION, description="as in the receipt")]


def check_collection(collection: str | None) -> None:
    """Refuse what is no collection's name.

    Raises:
        Problem: 422.
    """
    if collection is not None and "\x00" in collection:
        raise invalid("query parameter collection", "holds a NUL character; no collection does", collection)


@router.post("/ingest", status_code=202)
async def ingest(
    body: IngestRequest,
    caller: Authenticated,
    services: ServicesOf,
    trace: Traceparent,
    idempotency_key: IdempotencyKey,
) -> IngestResponse:
    """Add or replace documents. Answers once Kafka has all of them; `url` shows what becomes of each."""
    return await _ingested(body, "POST /v1/ingest", caller, services, trace, idempotency_key)


@router.post("/documents", status_code=202)
async def upload(
    body: Uploaded,
    caller: Authenticated,
    services: ServicesOf,
    trace: Traceparent,
    idempotency_key: IdempotencyKey,
) -> IngestResponse:
    """Add or replace documents by their files; the id of each is the name of its file, if no other is given."""
    return await _ingested(body, "POST /v1/documents", caller, services, trace, idempotency_key)


async def _ingested(
    body: IngestRequest, route: str, caller: Caller, services: Services, trace: str, key: str | None
) -> IngestResponse:
    async def send(id_of: IdOf) -> IngestResponse:
        submissions = [_submission(caller.tenant, each, id_of(n)) for n, each in enumerate(body.documents)]
        return IngestResponse(documents=await submit(services, submissions, trace))

    asked = [_asked(each) for each in body.documents] if key is not None else None
    return await once(services, caller, key, route, asked, IngestResponse, send)


def _asked(document: SubmittedDocument) -> dict[str, Any]:
    """Return what tells a request from another; of a file its hash, which is quicker to compare."""
    asked = document.model_dump(mode="json", exclude_defaults=True, exclude={"content"})
    return asked if document.content is None else {**asked, "content": sha256(document.content).hexdigest()}


def _submission(tenant: Tenant, document: SubmittedDocument, made_id: str) -> Submission:
    key = DocumentKey(tenant, DocumentId(document.id if document.id is not None else made_id))
    event = DocumentSubmitted(
        text=document.text,
        uri=document.uri,
        content=document.content,
        filename=document.filename,
        title=document.title,
        content_type=document.content_type,
        collection=document.collection,
        metadata=document.metadata,
        acl=document.acl,
    )
    return Submission(key, event)


@router.get("/documents")
async def list_documents(
    caller: Authenticated,
    services: ServicesOf,
    collection: Annotated[str | None, Query(max_length=256)] = None,
    status: Annotated[str | None, Query(description=", ".join(STATUSES))] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=2000, description="`next_cursor` of the page before")] = None,
) -> DocumentPage:
    """List documents that the caller may read, in order of id; deleted ones only with `status=deleted`."""
    if status is not None and status not in STATUSES:
        raise invalid("query parameter status", f"expected one of {', '.join(STATUSES)}", status)
    check_collection(collection)
    after = _read_cursor(cursor)
    rows = await services.documents.page(caller, collection=collection, status=status, after=after, limit=limit + 1)
    more = len(rows) > limit
    shown = [_describe(row, None) for row in rows[:limit]]
    return DocumentPage(documents=shown, next_cursor=_cursor(shown[-1].id) if more else None)


@router.post("/documents/lookup")
async def look_up(body: LookupRequest, caller: Authenticated, services: ServicesOf) -> LookupResponse:
    """Tell where each document stands: `submitted` until its submission was looked at, `unknown` where there is none.

    Of a document that the caller may not read, a look-up by submission tells the status alone.
    """
    rows = await services.documents.find(caller, [wanted.id for wanted in body.documents])
    return LookupResponse(
        documents=[_looked_up(wanted.id, rows.get(wanted.id), wanted.submission) for wanted in body.documents]
    )


@router.get("/documents/{document}", response_model=DocumentDescription)
async def describe(
    document: InPath,
    caller: Authenticated,
    services: ServicesOf,
    submission: Submitted = None,
) -> DocumentDescription:
    """Describe a document. With `submission`, `status` is `submitted` until that submission was looked at."""
    return await standing(services, caller, document, submission)


async def standing(
    services: Services, caller: Caller, document: str, submission: str | None = None
) -> DocumentDescription:
    """Describe a document as it stands.

    Raises:
        Problem: 404, there is none that the caller may read; 503, Postgres is away.
    """
    row = (await services.documents.find(caller, [document])).get(document)
    shown = _looked_up(document, row, submission)
    if shown.status == "submitted":
        return shown
    if row is None or not row.readable or row.deleted:
        raise _no_document(document)
    return shown


@router.patch("/documents/{document}", status_code=202)
async def patch(
    document: InPath,
    body: Annotated[DocumentPatch, Body(media_type="application/merge-patch+json")],
    caller: Authenticated,
    services: ServicesOf,
    trace: Traceparent,
    idempotency_key: IdempotencyKey,
) -> Receipt:
    """Change metadata, ACL, title or collection of a document that the caller may read; its text stays.

    Answers once Kafka has the request; `url` shows what becomes of it. It applies to what was submitted before it, and
    does not run the embedder. A document that was submitted a moment ago can be patched once it is accepted.
    """
    changes = body.changes()

    async def send(_: IdOf) -> Receipt:
        row = (await services.documents.find(caller, [document])).get(document)
        if row is None or not row.readable or row.deleted or not row.attributes["latest_version"]:
            raise _no_document(document, " that can be patched")
        event = DocumentSubmitted(patch=changes, patch_groups=list(caller.groups))
        [receipt] = await submit(services, [Submission(DocumentKey(caller.tenant, document), event)], trace)
        return receipt

    asked = {"document": document, "patch": changes}
    return await once(services, caller, idempotency_key, "PATCH /v1/documents", asked, Receipt, send)


@router.delete("/documents/{document}", status_code=202)
async def delete(document: InPath, caller: Authenticated, services: ServicesOf, trace: Traceparent) -> Receipt:
    """Delete a document. Answers once Kafka has the request; deleting what is not there is harmless."""
    [receipt] = await submit(services, [Submission(DocumentKey(caller.tenant, document), None)], trace)
    return receipt


@router.get(
    "/documents/{document}/content",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"example": "# Gates\n\nThe sluice gate opens at 4.2 metres."}}}},
)
async def content(
    document: InPath,
    caller: Authenticated,
    services: ServicesOf,
    start: Annotated[int, Query(ge=0, description="first code point")] = 0,
    end: Annotated[int | None, Query(ge=0, description="code point after the last")] = None,
) -> Response:
    """Return the text that is live: what citations quote, and what `start` and `end` of passages count in."""
    name = await services.documents.content(caller, document)
    if name is None:
        raise _no_document(document, " with a live text")
    try:
        text = (await services.blobs.get(name)).decode()
    except BlobMissing as error:
        detail = f"the text of document {document!r} is lost: {error}; submit the document again"
        raise Problem(500, "content_lost", detail) from error
    except OSError as error:
        raise unavailable("the object store", error) from error
    return Response(text[start:end].encode(), media_type="text/plain; charset=utf-8")


def _looked_up(document: str, row: DocumentRow | None, submission: str | None) -> DocumentDescription:
    if submission is not None and not _is_applied(row, submission):
        if row is None or not row.readable:
            return DocumentDescription(id=document, status="submitted")
        return _describe(row, "submitted")
    if row is None or not (row.readable or submission is not None):
        return DocumentDescription(id=document, status="unknown")
    if not row.readable:
        return DocumentDescription.model_validate(
            {"id": document, "status": row.status, "failure": row.attributes["failure"]}
        )
    return _describe(row, None)


def _is_applied(row: DocumentRow | None, submission: str) -> bool:
    partition, offset = map(int, submission.split(":"))
    return row is not None and row.applied.get(partition, -1) >= offset


def _describe(row: DocumentRow, status: str | None) -> DocumentDescription:
    return DocumentDescription.model_validate({"id": row.id, "status": status or row.status, **row.attributes})


def _no_document(document: str, what: str = "") -> Problem:
    return Problem(404, "no_document", f"there is no document {document!r}{what}")


def _cursor(document: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([document]).encode()).decode()


def _read_cursor(cursor: str | None) -> str:
    if cursor is None:
        return ""
    try:
        [document] = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        return parse_document_id(document)
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        detail = f"cursor {cursor[:80]!r} is none; send 'next_cursor' of the page before as it came"
        raise Problem(400, "bad_cursor", detail) from error
