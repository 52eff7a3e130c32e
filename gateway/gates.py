"""Routes of the gate: whether a candidate generation may answer instead of the one that does."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Self

from fastapi import APIRouter, Header, Path
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from gateway.auth import Caller, Operator
from gateway.dead_letters import nudge
from gateway.documents import ServicesOf
from gateway.gate_page import page
from gateway.models import QUERY_MAX_CHARS, DocumentId, Name
from gateway.ports import Services
from gateway.problems import Problem, invalid
from gateway.sse import EventStream
from gateway.trace import Traceparent
from schemas.ids import parse_tenant

router = APIRouter(prefix="/v1/generations/{name}/gate", tags=["generations"])

QUESTIONS_MAX: Final = 2_000
LABELS_MAX: Final = 100
PROGRESS_S: Final = 0.5
_EXAMPLE: Final = (
    'event: progress\ndata: {"id": "…", "state": "running", "progress": {"n_questions": 200, "n_asked": 31}}\n\n'
)
PAGE_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
}


def _says_something(text: str) -> str:
    if not re.search(r"\w", text):
        raise ValueError("has no letter and no digit; expected some words")
    if "\x00" in text:
        raise ValueError("holds a NUL character; remove it")
    return text


Text = Annotated[str, Field(min_length=1, max_length=QUERY_MAX_CHARS), AfterValidator(_says_something)]
TenantName = Annotated[str, AfterValidator(parse_tenant)]
Grades = Annotated[dict[DocumentId, Annotated[int, Field(ge=1, le=100, strict=True)]], Field(max_length=LABELS_MAX)]


class LabelledQuestion(BaseModel):
    """A question with at least one label.

    `documents` answer it: ids, or ids with grades. `passage` are words that the answerer must be given. `answers` are
    short, each of them right. Questions of one `set` are judged together.
    """

    model_config = ConfigDict(extra="forbid")

    question: Text
    documents: Annotated[list[DocumentId], Field(max_length=LABELS_MAX)] | Grades = []
    passage: Text | None = None
    answers: Annotated[list[Text], Field(max_length=LABELS_MAX)] = []
    tenant: TenantName | None = Field(None, description="whose documents are asked; else that of the key")
    groups: Annotated[list[Name], Field(max_length=LABELS_MAX)] = []
    collection: Name | None = None
    set: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = "labelled"

    @model_validator(mode="after")
    def _labelled(self) -> Self:
        if not (self.documents or self.passage or self.answers):
            raise ValueError("has no label; give documents, a passage or answers")
        if self.set in ("golden", "logged", "shadowed"):
            raise ValueError(f"set {self.set!r} is a name of its own; choose another")
        return self

    def stored(self, caller: Caller) -> dict[str, Any]:
        """Return it as the worker that asks it reads it."""
        documents = self.documents
        return {
            "set": self.set,
            "kind": "labelled",
            "tenant": self.tenant or caller.tenant,
            "text": self.question,
            "relevant": documents if isinstance(documents, dict) else dict.fromkeys(documents, 1),
            "passage": self.passage,
            "answers": self.answers,
            "filters": {"groups": self.groups, "collection": self.collection},
        }


class GateRequest(BaseModel):
    """What both generations are asked."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "golden": False,
                    "logged": 200,
                    "questions": [
                        {
                            "question": "At which level does the sluice gate open?",
                            "documents": ["manual/gates.md"],
                            "passage": "opens at 4.2 metres",
                        }
                    ],
                }
            ]
        },
    )

    questions: Annotated[list[LabelledQuestion], Field(max_length=QUESTIONS_MAX)] = []
    golden: bool = Field(False, description="twenty questions over this project's own docs, for the tenant of the key")
    logged: int = Field(0, ge=0, le=QUESTIONS_MAX, description="so many questions of the last 24 hours, of all tenants")
    shadowed: int = Field(
        0, ge=0, le=QUESTIONS_MAX, description="so many of the newest questions that the candidate was asked unseen"
    )
    margin: float = Field(0.05, ge=0.01, le=0.25, description="by so much the candidate may be worse at most")
    base: Name | None = Field(None, description="generation to compare with; else the one that answers")

    @model_validator(mode="after")
    def _not_nothing(self) -> Self:
        if not (self.questions or self.golden or self.logged or self.shadowed):
            raise ValueError("asks nothing; give questions, golden, logged or shadowed")
        return self


class Gated(BaseModel):
    """A gate: how far it is, then its verdict and report (docs/designs/gate.md describes it).

    `progress` has n_questions and n_asked. `verdict` is better, equal, worse or unsure; better and equal pass.
    """

    id: str
    candidate: str
    base: str
    margin: float
    state: str = Field(description="asked, running, finished, failed or cancelled")
    why: str | None = Field(None, description="it failed")
    progress: dict[str, Any]
    verdict: str | None = None
    passed: bool
    reason: str | None = None
    report: dict[str, Any] | None = None
    asked_at: datetime
    finished_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateEvent:
    """One event of a stream: a gate without its report."""

    name: str
    data: Mapping[str, Any]
    place: str | None = None


Candidate = Annotated[str, Path(description="the candidate generation", max_length=256)]


@router.post("", status_code=202)
async def ask_gate(
    name: Candidate, body: GateRequest, caller: Operator, services: ServicesOf, trace: Traceparent
) -> Gated:
    """Have a candidate judged; a retrieval worker does it, beside live questions, at low priority."""
    base = body.base or await services.questions.generation()
    await _check(services, name, base)
    asked = await services.gates.ask(
        candidate=name,
        base=base,
        tenant=caller.tenant,
        margin=body.margin,
        sets={
            "golden": body.golden,
            "logged": body.logged,
            "shadowed": body.shadowed,
            "labelled": [each.stored(caller) for each in body.questions],
        },
    )
    if asked is None:
        raise Problem(409, "gate_open", f"a gate of {name!r} is under way; wait for its end, or cancel it with DELETE")
    await nudge(services, caller, trace, "gate")
    return Gated.model_validate(asked)


async def _check(services: Services, candidate: str, base: str) -> None:
    known = await services.gates.generations()
    for each in (candidate, base):
        if each not in known:
            raise Problem(404, "no_generation", f"there is no index generation {each!r}; there are {sorted(known)}")
    if candidate == base:
        raise invalid("path parameter name", f"{candidate!r} is the generation to compare with; name another one")


@router.get(
    "", response_model=Gated, responses={200: {"content": {"text/html": {}}, "description": "the gate, or its page"}}
)
async def latest_gate(
    name: Candidate,
    _: Operator,
    services: ServicesOf,
    accept: Annotated[str, Header(description="`text/html`: the page")] = "",
) -> Response:
    """Say how the last gate of a candidate is, or was."""
    found = await _latest(services, name)
    if "text/html" in accept:
        return HTMLResponse(page(found), headers=PAGE_HEADERS)
    return JSONResponse(Gated.model_validate(found).model_dump(mode="json"))


@router.get(
    "/events",
    status_code=200,
    response_class=EventStream,
    responses={200: {"description": "The events", "content": {"text/event-stream": {"example": _EXAMPLE}}}},
)
async def gate_events(name: Candidate, _: Operator, services: ServicesOf) -> Response:
    """Follow the last gate of a candidate: `progress` whenever something has changed, then `done` as its last event."""
    found = await _latest(services, name)
    services.streams.take()
    return EventStream(services.streams, _follow(services, name, found["id"]))


async def _follow(services: Services, name: str, id: str) -> AsyncGenerator[GateEvent, None]:
    told: dict[str, Any] = {}
    while True:
        try:
            found = await _latest(services, name)
        except Problem:
            # the reader comes again, and is told then
            return
        if found["id"] != id:
            # another one was asked for meanwhile, so this one has ended
            return
        now = Gated.model_validate(found | {"report": None}).model_dump(mode="json", exclude={"report"})
        ended = now["state"] not in ("asked", "running")
        if now != told:
            told = now
            yield GateEvent(name="done" if ended else "progress", data=now)
        if ended:
            return
        await asyncio.sleep(PROGRESS_S)


@router.get("/report", response_class=HTMLResponse)
async def gate_report(name: Candidate, _: Operator, services: ServicesOf) -> Response:
    """Return the last gate of a candidate as a page that needs nothing else."""
    return HTMLResponse(page(await _latest(services, name)), headers=PAGE_HEADERS)


@router.delete("")
async def cancel_gate(name: Candidate, _: Operator, services: ServicesOf) -> Gated:
    """Cancel the gate of a candidate that is under way."""
    if not await services.gates.cancel(name):
        raise Problem(409, "no_gate_open", f"no gate of {name!r} is under way, so there is nothing to cancel")
    return Gated.model_validate(await _latest(services, name))


async def _latest(services: Services, name: str) -> dict[str, Any]:
    found = await services.gates.latest(name)
    if found is None:
        raise Problem(404, "no_gate", f"no gate of {name!r} was asked for; POST to this address asks for one")
    return dict(found)
