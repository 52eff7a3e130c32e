"""The route by which the owner of a document has it tried again."""

from typing import Final, Literal

from fastapi import APIRouter
from pydantic import BaseModel

from backbone.kafka import PublishFailed
from gateway.auth import Authenticated, Caller
from gateway.dead_letters import DeadLetter, redrive
from gateway.documents import InPath, ServicesOf, standing
from gateway.ports import LetterFilter, Services
from gateway.problems import Problem, unavailable
from gateway.sending import acknowledged
from gateway.trace import Traceparent
from schemas.codec import REISSUE_HEADER, TRACE_HEADER
from schemas.ids import DocumentId, DocumentKey
from schemas.topics import INGEST

router = APIRouter(prefix="/v1", tags=["documents"])
_SETTLED: Final = ("indexed", "deleted")


class Retried(BaseModel):
    """What was begun: a `redrive` of what was given up, or a `reissue` of the latest version."""

    how: Literal["redrive", "reissue"]
    version: int | None = None
    dead_letter: DeadLetter | None = None


@router.post("/documents/{document}/retry", status_code=202)
async def retry(document: InPath, caller: Authenticated, services: ServicesOf, trace: Traceparent) -> Retried:
    """Try a document again that failed, or that does not get on. What was accepted since is not overtaken."""
    shown = await standing(services, caller, document)
    if shown.status in _SETTLED:
        detail = f"document {document!r} is {shown.status}: nothing of it has failed"
        raise Problem(409, "nothing_failed", detail)
    if shown.status == "failed":
        wanted = LetterFilter(state="open", tenant=caller.tenant, document=document)
        letters = await services.letters.page(caller, wanted, before=None, limit=1)
        if letters:
            letter = await redrive(services, caller, letters[0], trace)
            return Retried(how="redrive", dead_letter=DeadLetter.of(letter))
    if not shown.latest_version or (shown.failure is not None and shown.failure.stage == "intake"):
        detail = f"what was submitted as {document!r} is not kept any more; submit it again"
        raise Problem(409, "not_kept", detail)
    await reissue(services, caller, document, shown.latest_version, trace)
    return Retried(how="reissue", version=shown.latest_version)


async def reissue(services: Services, caller: Caller, document: DocumentId, version: int, trace: str) -> None:
    """Ask intake to publish a version once more.

    Raises:
        Problem: 503, Kafka is away.
    """
    headers = {REISSUE_HEADER: str(version).encode(), TRACE_HEADER: trace.encode()}
    key = DocumentKey(caller.tenant, document).encode()
    try:
        await acknowledged(services.sender.send(INGEST.name, key=key, value=b"{}", headers=headers))
    except PublishFailed as error:
        raise unavailable("Kafka", error) from error
