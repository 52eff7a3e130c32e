"""Routes of rebuilding: what a sink has lost is written again from the log, without a model."""

from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from gateway.auth import Operator
from gateway.dead_letters import nudge
from gateway.documents import ServicesOf
from gateway.generations import HELD, GenerationName, found_generation
from gateway.problems import Problem, invalid
from gateway.trace import Traceparent

router = APIRouter(prefix="/v1", tags=["generations"])

REBUILDS_MAX: Final = 100


class RebuildRequest(BaseModel):
    """What shall be rebuilt."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"sink": "pgvector"}]})

    sink: Literal["pgvector", "tantivy", "opensearch"] = Field(
        description="the table of chunks and vectors, the lexical view of each retrieval worker, or the index"
    )


class Rebuild(BaseModel):
    """A rebuild.

    `state` is asked, running, finished or failed. Of a table or an index `progress` has n_passed of n_offsets of the
    embeddings topic, n_documents and n_chunks written, n_unreadable records, and, once finished, n_incomplete: live
    documents that the topic does not hold whole. Of lexical views it has n_done of n_views, and those that are `gone`.
    """

    id: str
    generation: str
    sink: str
    state: str
    why: str | None
    progress: dict[str, Any]
    asked_at: datetime
    began_at: datetime | None
    finished_at: datetime | None


@router.post("/generations/{name}/rebuild", status_code=202)
async def rebuild(
    name: GenerationName, body: RebuildRequest, caller: Operator, services: ServicesOf, trace: Traceparent
) -> Rebuild:
    """Have a sink of a generation rebuilt from its embeddings; the operator stage does it, beside live traffic."""
    found = await found_generation(services, name)
    if found["state"] not in HELD:
        raise Problem(409, "holds_nothing", f"{name!r} is {found['state']}; expected one that is {' or '.join(HELD)}")
    if body.sink not in ("pgvector", found["lexical"], found["vectors"]):
        stores = f"{found['lexical']} and {found['vectors']}"
        raise Problem(409, "not_held_there", f"{name!r} is searched in {stores}, not in {body.sink}")
    asked = await services.rebuilds.ask(name, sink=body.sink, asked_by=caller.tenant)
    if asked is None:
        raise Problem(409, "rebuild_open", f"{body.sink} of {name!r} is being rebuilt; see GET /v1/rebuilds")
    await nudge(services, caller, trace, "rebuild")
    return Rebuild.model_validate(asked)


@router.get("/rebuilds")
async def rebuilds(_: Operator, services: ServicesOf) -> list[Rebuild]:
    """List the last hundred rebuilds, the newest first."""
    return [Rebuild.model_validate(row) for row in await services.rebuilds.latest(REBUILDS_MAX)]


@router.get("/rebuilds/{id}")
async def rebuild_progress(
    id: Annotated[str, Path(description="id of a rebuild")], _: Operator, services: ServicesOf
) -> Rebuild:
    """Say how far a rebuild is."""
    try:
        found = await services.rebuilds.find(str(UUID(id)))
    except ValueError as error:
        raise invalid("path parameter id", "expected the UUID of a rebuild", id) from error
    if found is None:
        raise Problem(404, "no_rebuild", f"there is no rebuild {id!r}")
    return Rebuild.model_validate(found)
