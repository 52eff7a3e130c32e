"""Routes of index generations: what there is, what is wanted, and which one answers."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal, Self

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, Field

from gateway.auth import Caller, Operator
from gateway.dead_letters import nudge
from gateway.documents import ServicesOf
from gateway.ports import Services
from gateway.problems import Problem
from gateway.sse import EventStream
from gateway.trace import Traceparent

router = APIRouter(prefix="/v1", tags=["generations"])

SWITCHES_MAX: Final = 100
PROGRESS_S: Final = 1.0
HELD: Final = ("following", "paused")
_NAME: Final = r"^[a-z0-9_]{1,48}$"
_EXAMPLE: Final = 'event: progress\ndata: {"name": "g2", "state": "following", "n_documents": 40, "n_covered": 31}\n\n'

GenerationName = Annotated[str, Path(description="name of an index generation", max_length=256)]


class GenerationRequest(BaseModel):
    """A generation that shall be made: every accepted document is chunked and embedded for it, from the log."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "g2", "chunker": "tokens", "embedder": "all-MiniLM-L6-v2"}]},
    )

    name: str = Field(pattern=_NAME, description="never used before; part of the names of its topic and table")
    chunker: str = Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")
    embedder: str = Field(min_length=1, max_length=512)
    lexical: Literal["tantivy", "opensearch"] = Field("tantivy", description="what searches its words")
    vectors: Literal["pgvector", "opensearch"] = Field("pgvector", description="what searches its vectors")


class Generation(BaseModel):
    """An index generation.

    `state` is asked (topics and table are being made), following, paused, failed, dropping or dropped. `why` says why
    it failed, or what its dropping waits for. `serving`: it answers. `shadow_share`: of the live questions, from 0 to
    1, that it is asked as well, unseen.
    """

    name: str
    chunker: str
    embedder: str
    lexical: str = Field(description="what searches its words: tantivy or opensearch")
    vectors: str = Field(description="what searches its vectors: pgvector or opensearch")
    dim: int | None
    state: str
    why: str | None
    serving: bool
    created_at: datetime
    shadow_share: float


class ShadowRequest(BaseModel):
    """How many live questions a candidate is asked as well."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"share": 0.1}]})

    share: float = Field(ge=0, le=1, description="of the answered questions, chosen by a hash of their ids; 0: none")


class ShadowMeasure(BaseModel):
    """A measure over the questions that both generations have it of.

    `name` is relevance, faithfulness (of the answers, as scored) or answered (1: no abstention). `low` and `high` bound
    the `difference`, candidate less base, each one-sided at the `confidence` of the shadow.
    """

    name: str
    n: int
    base: float
    candidate: float
    difference: float
    low: float
    high: float


class Shadow(BaseModel):
    """How a candidate does on live questions that it was asked unseen (docs/designs/gate.md).

    Of the `n` newest: `overlap`, of the first ten documents, and `agreement`, of the words of both answers, each a mean
    from 0 to 1. `base` answered the readers; none: nothing was compared yet. `n_dropped` came faster than it could be
    asked, `n_failed` could not be asked.
    """

    since: datetime
    base: str | None = None
    n: int = 0
    n_dropped: int
    n_failed: int = 0
    confidence: float | None = None
    overlap: float | None = None
    agreement: float | None = None
    measures: list[ShadowMeasure] = []


class Progress(Generation):
    """A generation, and how far it is.

    Of `n_documents`, `n_covered` are served in their latest version, which stands in OpenSearch too where that is
    searched, and `n_failed` of the others failed for good. `documents_per_s`: indexed in the last minute. `eta_s`: when
    all will be covered at that rate, s; none: at no rate, or they are. `n_ready` of the `n_workers` retrieval workers
    can search it. `shadow`: what it makes of live questions; none: it was never asked any.
    """

    n_documents: int
    n_covered: int
    n_failed: int
    documents_per_s: float
    eta_s: float | None
    n_workers: int
    n_ready: int
    shadow: Shadow | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any], progress: Mapping[str, Any]) -> Self:
        """Put both halves together."""
        missing = progress["n_documents"] - progress["n_covered"] - progress["n_failed"]
        rate = progress["documents_per_s"]
        eta_s = round(missing / rate, 1) if missing > 0 and rate > 0 else None
        return cls.model_validate(dict(row) | dict(progress) | {"eta_s": eta_s})


class SwitchRequest(BaseModel):
    """How a switch is meant."""

    model_config = ConfigDict(extra="forbid")

    force: bool = Field(
        False, description="without a passed gate, and before all documents are covered; this is recorded"
    )


class Switch(BaseModel):
    """That another generation shall answer.

    `state` is asked, moved (it answers), done, or refused. `why` says what it waits for, or why it was refused. `gate`
    is the one that was passed.
    """

    id: str
    generation: str
    previous: str
    kind: str = Field(description="switch or rollback")
    forced: bool
    gate: str | None
    state: str
    why: str | None
    asked_at: datetime
    moved_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressEvent:
    """One event of a stream."""

    name: str
    data: Mapping[str, Any]
    place: str | None = None


@router.get("/generations")
async def generations(_: Operator, services: ServicesOf) -> list[Generation]:
    """List all index generations, the oldest first."""
    return [Generation.model_validate(row) for row in await services.generations.all()]


@router.post("/generations", status_code=202)
async def create_generation(
    body: GenerationRequest, caller: Operator, services: ServicesOf, trace: Traceparent
) -> Generation:
    """Have a generation made; the operator stage does it, and the replay worker fills it from the log."""
    if "opensearch" in (body.lexical, body.vectors) and not services.settings.opensearch_url:
        raise Problem(
            409,
            "no_opensearch",
            f"there is no OpenSearch for lexical={body.lexical!r}, vectors={body.vectors!r}; set "
            "HEADRACE_OPENSEARCH_URL of gateway and workers, or start with headrace up --lexical opensearch",
        )
    asked = await services.generations.ask(
        body.name, chunker=body.chunker, embedder=body.embedder, lexical=body.lexical, vectors=body.vectors
    )
    if not asked:
        raise Problem(409, "generation_exists", f"the name {body.name!r} was used before; choose another one")
    await nudge(services, caller, trace, "generations")
    return Generation.model_validate(await found_generation(services, body.name))


@router.get("/generations/{name}")
async def generation(name: GenerationName, _: Operator, services: ServicesOf) -> Progress:
    """Say what a generation is, and how far."""
    return await _progress(services, name)


@router.get(
    "/generations/{name}/events",
    status_code=200,
    response_class=EventStream,
    responses={200: {"description": "The events", "content": {"text/event-stream": {"example": _EXAMPLE}}}},
)
async def generation_events(name: GenerationName, _: Operator, services: ServicesOf) -> Response:
    """Follow a generation: `progress` whenever something has changed. The stream stays open until the caller leaves."""
    await found_generation(services, name)
    services.streams.take()
    return EventStream(services.streams, _follow(services, name))


@router.post("/generations/{name}/pause", status_code=202)
async def pause(name: GenerationName, caller: Operator, services: ServicesOf, trace: Traceparent) -> Generation:
    """Let a generation that does not answer rest where it is."""
    return await _change(services, caller, trace, name, "paused", ("following",))


@router.post("/generations/{name}/resume", status_code=202)
async def resume(name: GenerationName, caller: Operator, services: ServicesOf, trace: Traceparent) -> Generation:
    """Let a paused generation go on."""
    return await _change(services, caller, trace, name, "following", ("paused",))


@router.post("/generations/{name}/shadow", status_code=202)
async def shadow(name: GenerationName, body: ShadowRequest, _: Operator, services: ServicesOf) -> Generation:
    """Have a candidate asked a share of the live questions, unseen, after they were answered; 0 ends it."""
    if not await services.generations.shadow(name, body.share):
        found = await found_generation(services, name)
        if found["serving"]:
            raise Problem(409, "serving", f"{name!r} answers itself; expected a candidate that does not")
        raise Problem(409, "wrong_state", f"{name!r} is {found['state']}; expected {' or '.join(HELD)}")
    return Generation.model_validate(await found_generation(services, name))


@router.delete("/generations/{name}", status_code=202)
async def drop(name: GenerationName, caller: Operator, services: ServicesOf, trace: Traceparent) -> Generation:
    """Drop a generation that does not answer, with all that it owned; its name stays used."""
    return await _change(services, caller, trace, name, "dropping", (*HELD, "failed"))


@router.post("/generations/{name}/switch", status_code=202)
async def switch(
    name: GenerationName, body: SwitchRequest, caller: Operator, services: ServicesOf, trace: Traceparent
) -> Switch:
    """Let a generation answer from now on, once every retrieval worker can search it; open questions end on theirs."""
    found, previous = await found_generation(services, name), await services.questions.generation()
    if found["serving"]:
        raise Problem(409, "already_serving", f"{name!r} answers already")
    _check_followed(found)
    judged = await services.gates.judged(name, previous)
    passed = judged is not None and judged["passed"]
    if not passed and not body.force:
        why = f"the gate said {judged['verdict']}: {judged['reason']}" if judged else "no gate has judged it"
        raise Problem(
            409,
            "no_gate_passed",
            f"{name!r} has not passed a gate against {previous!r}: {why}; judge it with headrace generation gate, or "
            "force the switch",
        )
    gate = judged["id"] if judged is not None and passed else None
    return await _switched(services, caller, trace, name, previous, kind="switch", forced=body.force, gate=gate)


@router.post("/rollback", status_code=202)
async def rollback(body: SwitchRequest, caller: Operator, services: ServicesOf, trace: Traceparent) -> Switch:
    """Let the generation answer again that answered before the last switch."""
    serving = await services.questions.generation()
    moved = [each for each in await services.generations.switches(SWITCHES_MAX) if each["moved_at"] is not None]
    if not moved or moved[0]["generation"] != serving:
        raise Problem(409, "nothing_to_roll_back", f"{serving!r} answers, and no switch made it so")
    previous = moved[0]["previous"]
    _check_followed(await found_generation(services, previous))
    return await _switched(services, caller, trace, previous, serving, kind="rollback", forced=body.force, gate=None)


@router.get("/switches")
async def switches(_: Operator, services: ServicesOf) -> list[Switch]:
    """List the last hundred switches, the newest first."""
    return [Switch.model_validate(row) for row in await services.generations.switches(SWITCHES_MAX)]


@router.delete("/switches")
async def cancel_switch(_: Operator, services: ServicesOf) -> list[Switch]:
    """Cancel the switch that waits; returns the last switches, the newest first."""
    if not await services.generations.cancel_switch():
        raise Problem(409, "no_switch_waits", "no switch waits, so there is nothing to cancel")
    return [Switch.model_validate(row) for row in await services.generations.switches(SWITCHES_MAX)]


async def found_generation(services: Services, name: str) -> Mapping[str, Any]:
    """Return a generation.

    Raises:
        Problem: 404, there is no such one.
    """
    found = await services.generations.find(name)
    if found is None:
        known = ", ".join(repr(row["name"]) for row in await services.generations.all())
        raise Problem(404, "no_generation", f"there is no index generation {name!r}; there are {known}")
    return found


def _check_followed(found: Mapping[str, Any]) -> None:
    """A paused one would stay paused while it answers, and index nothing.

    Raises:
        Problem: 409, it is not followed.
    """
    if found["state"] != "following":
        cure = f"; headrace generation resume {found['name']}" if found["state"] == "paused" else ""
        raise Problem(
            409, "not_followed", f"{found['name']!r} is {found['state']}; expected one that is following{cure}"
        )


async def _progress(services: Services, name: str) -> Progress:
    return Progress.of(await found_generation(services, name), await services.generations.progress(name))


async def _follow(services: Services, name: str) -> AsyncGenerator[ProgressEvent, None]:
    told: dict[str, Any] = {}
    while True:
        try:
            now = (await _progress(services, name)).model_dump(mode="json")
        except Problem:
            # the reader comes again, and is told then
            return
        if now != told:
            told = now
            yield ProgressEvent(name="progress", data=now)
        await asyncio.sleep(PROGRESS_S)


async def _change(
    services: Services, caller: Caller, trace: str, name: str, state: str, from_states: Sequence[str]
) -> Generation:
    if not await services.generations.change(name, state, from_states=from_states):
        found = await found_generation(services, name)
        if found["serving"]:
            raise Problem(409, "serving", f"{name!r} answers; switch to another generation first")
        if found["state"] != state:
            raise Problem(
                409,
                "wrong_state",
                f"{name!r} is {found['state']}, or a switch to it is under way; expected {' or '.join(from_states)}",
            )
    await nudge(services, caller, trace, "generations")
    return Generation.model_validate(await found_generation(services, name))


async def _switched(
    services: Services,
    caller: Caller,
    trace: str,
    name: str,
    previous: str,
    *,
    kind: Literal["switch", "rollback"],
    forced: bool,
    gate: str | None,
) -> Switch:
    asked = await services.generations.switch(
        name, previous=previous, kind=kind, forced=forced, gate=gate, asked_by=caller.tenant
    )
    if asked is None:
        raise Problem(409, "switch_open", "another switch is under way; see GET /v1/switches")
    await nudge(services, caller, trace, "generations")
    return Switch.model_validate(asked)
