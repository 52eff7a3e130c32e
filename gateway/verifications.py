"""Routes of verification: whether log and tables agree, and how far the generation has come."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from gateway.auth import Operator
from gateway.dead_letters import nudge
from gateway.documents import ServicesOf
from gateway.problems import Problem, invalid
from gateway.trace import Traceparent
from gateway.verification_rows import FINDINGS_PAGE

router = APIRouter(prefix="/v1", tags=["verification"])


class VerificationRequest(BaseModel):
    """What shall be done with what differs."""

    model_config = ConfigDict(extra="forbid")

    repair: bool = Field(False, description="have every document that differs done again from the log")


class Finding(BaseModel):
    """Something that differs about a document; docs/runbooks/drift.md lists the kinds."""

    kind: str = Field(examples=["chunks_missing"])
    generation: str
    tenant: str
    document: str
    version: int | None
    detail: str
    seen_by: str
    reissued_at: datetime | None


class Verified(BaseModel):
    """A verification.

    `progress` has counts: n_logged, n_documents, n_differences and `kinds` of them, and n_views, the lexical views that
    were compared. `silent_views` names those that did not answer.
    """

    id: str
    repair: bool
    state: str = Field(description="asked, running, finished or failed")
    why: str | None = None
    progress: dict[str, Any]
    asked_at: datetime
    finished_at: datetime | None = None
    findings: list[Finding] = []


class Coverage(BaseModel):
    """How many documents a generation serves in their latest version. `n_failed` of the others failed for good."""

    generation: str
    n_documents: int
    n_covered: int
    n_failed: int


@router.post("/verifications", status_code=202)
async def verify(body: VerificationRequest, caller: Operator, services: ServicesOf, trace: Traceparent) -> Verified:
    """Have log and tables compared; the operator stage does it."""
    asked = await services.verifications.ask(repair=body.repair)
    await nudge(services, caller, trace, "verify")
    return Verified.model_validate(asked)


@router.get("/verifications/{id}")
async def verification(
    id: Annotated[str, Path(description="id of a verification")],
    _: Operator,
    services: ServicesOf,
    after: Annotated[int, Query(ge=0, description="so many findings are left out")] = 0,
) -> Verified:
    """Say how far a verification is, and what it found, a thousand findings at a time."""
    try:
        found = await services.verifications.find(str(UUID(id)), after=after, limit=FINDINGS_PAGE)
    except ValueError as error:
        raise invalid("path parameter id", "expected the UUID of a verification", id) from error
    if found is None:
        raise Problem(404, "no_verification", f"there is no verification {id!r}")
    return Verified.model_validate(found)


@router.get("/coverage")
async def coverage(_: Operator, services: ServicesOf) -> list[Coverage]:
    """Say how far each generation has come."""
    return [Coverage.model_validate(row) for row in await services.verifications.coverage()]
