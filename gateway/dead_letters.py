"""Routes of dead letters: what was given up, why, and what shall be done with it."""

import asyncio
import base64
import json
import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self

from confluent_kafka import KafkaException
from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, model_validator

from backbone.kafka import MissingTopic, Received
from gateway.auth import Authenticated, Caller, Operator
from gateway.documents import ServicesOf
from gateway.ports import LetterFilter, LetterRow, Services
from gateway.problems import Problem, invalid, unavailable
from gateway.sending import send
from gateway.trace import Traceparent
from schemas.events import ControlSent
from schemas.topics import CONTROL, DEAD_LETTERS, INGEST, STAGES

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])

STATES: Final = ("open", "redrive", "redriven", "discarded")
ENDED_STAGES: Final = ("retrieve", "generate")
"""What they gave up ended its question with an error, and is not redriven."""
PREVIEW_MAX_BYTES: Final = 4_096
_RECORD_S: Final = 5.0
"""How long Kafka may take to give a record."""
_ID: Final = re.compile(r"([a-z_]{1,40})\.(\d{1,9})\.(\d{1,18})")
_EXAMPLE: Final[dict[str, JsonValue]] = {
    "id": "intake.0.17",
    "state": "open",
    "stage": "intake",
    "reason": "not_json",
    "message": 'the value is not JSON: ...; expected an object like {"text": "..."}',
    "attempts": 1,
    "failed_at": "2026-11-26T18:00:00Z",
    "tenant": "acme",
    "document": "manual/gates.md",
    "n_bytes": 5,
    "source_topic": INGEST.name,
    "source_partition": 3,
    "source_offset": 1042,
    "consumer_group": "rag.intake",
    "changed_at": "2026-11-26T18:00:00Z",
}


class DeadLetter(BaseModel):
    """A record that a stage gave up.

    `source_...` say where it stood. `key` is shown as text, with backslashes for what is no UTF-8. `why` says why the
    last redrive was not possible.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: str = Field(description="`<stage>.<partition>.<offset>`, its place in the stage's dead-letter topic")
    state: str = Field(description=f"one of {', '.join(STATES)}; `redrive`: it is about to be sent again")
    stage: str
    reason: str
    message: str
    attempts: int
    failed_at: datetime
    tenant: str | None = None
    document: str | None = None
    version: int | None = None
    query: str | None = None
    key: str | None = None
    n_bytes: int
    source_topic: str
    source_partition: int
    source_offset: int
    consumer_group: str = Field(default="", description="of the stage; tells the chunker or generation; empty: unknown")
    why: str | None = None
    changed_at: datetime

    @classmethod
    def of(cls, row: LetterRow) -> Self:
        """Show a registered dead letter."""
        shown = {"id": id_of(row), "state": row.state, "stage": row.stage, "failed_at": row.failed_at}
        return cls.model_validate(shown | dict(row.attributes))


class Header(BaseModel):
    """One header of a record. `base64`: the value is no UTF-8."""

    name: str
    value: str | None = None
    base64: str | None = None


class WholeDeadLetter(DeadLetter):
    """A dead letter with its record: all headers in order, and the beginning of its value.

    `kept` False: the record is not kept any more. `value` is None for a tombstone, and where the value is no UTF-8;
    `GET …/value` gives its bytes.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{**_EXAMPLE, "kept": True, "value": "hello", "value_cut": False}]}
    )

    kept: bool
    headers: list[Header] = []
    value: str | None = None
    value_cut: bool = False


class DeadLetterPage(BaseModel):
    """Dead letters, the newest first."""

    dead_letters: list[DeadLetter]
    next_cursor: str | None = None


class Chosen(BaseModel):
    """Which open dead letters; at least one of the filters, or `all`."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"stage": "embed", "reason": "deadline"}]}
    )

    stage: str | None = None
    reason: str | None = None
    tenant: str | None = None
    document: str | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    all: bool = False

    @model_validator(mode="after")
    def _not_by_accident(self) -> Self:
        filters = self.model_dump(exclude={"all"}, exclude_none=True)
        if bool(filters) == self.all:
            raise ValueError('give at least one filter, or {"all": true} and none')
        return self


class Decided(BaseModel):
    """How many dead letters it was."""

    n: int


def id_of(row: LetterRow) -> str:
    """Return the id of a dead letter."""
    return f"{row.stage}.{row.partition}.{row.offset}"


async def filter_of(
    stage: Annotated[str | None, Query(description=", ".join(STAGES))] = None,
    reason: Annotated[str | None, Query(max_length=200)] = None,
    state: Annotated[str | None, Query(description=", ".join(STATES))] = None,
    tenant: Annotated[str | None, Query(max_length=63)] = None,
    document: Annotated[str | None, Query(max_length=512)] = None,
    since: Annotated[AwareDatetime | None, Query(description="given up then or later, as 2026-11-26T18:00:00Z")] = None,
    until: Annotated[AwareDatetime | None, Query(description="given up before")] = None,
) -> LetterFilter:
    """Return the filter of a request.

    Raises:
        Problem: 422, an unknown stage or state.
    """
    if state is not None and state not in STATES:
        raise invalid("query parameter state", f"expected one of {', '.join(STATES)}", state)
    wanted = LetterFilter(
        stage=stage, reason=reason, state=state, tenant=tenant, document=document, since=since, until=until
    )
    return _checked(wanted, "query parameter")


def _checked(wanted: LetterFilter, where: str) -> LetterFilter:
    if wanted.stage is not None and wanted.stage not in STAGES:
        raise invalid(f"{where} stage", f"expected one of {', '.join(STAGES)}", wanted.stage)
    for name in ("reason", "tenant", "document"):
        if "\x00" in (getattr(wanted, name) or ""):
            raise invalid(f"{where} {name}", "holds a NUL character", getattr(wanted, name))
    return wanted


async def letter_in_path(
    id: Annotated[str, Path(description="id of a dead letter")], caller: Authenticated, services: ServicesOf
) -> LetterRow:
    """Return the dead letter of the path.

    Raises:
        Problem: 422, no id of one; 404, there is none that the caller may see.
    """
    place = _ID.fullmatch(id)
    if place is None:
        raise invalid("path parameter id", "expected '<stage>.<partition>.<offset>'", id)
    stage, partition, offset = place.groups()
    row = await services.letters.find(caller, stage, int(partition), int(offset))
    if row is None:
        raise Problem(404, "no_dead_letter", f"there is no dead letter {id!r}")
    return row


InPath = Annotated[LetterRow, Depends(letter_in_path)]


@router.get("")
async def list_dead_letters(
    caller: Authenticated,
    services: ServicesOf,
    wanted: Annotated[LetterFilter, Depends(filter_of)],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Annotated[str | None, Query(max_length=2000, description="`next_cursor` of the page before")] = None,
) -> DeadLetterPage:
    """List dead letters, the newest first. An operator's key sees those of all tenants, others their own."""
    rows = await services.letters.page(caller, wanted, before=_read_cursor(cursor), limit=limit + 1)
    shown, more = rows[:limit], len(rows) > limit
    return DeadLetterPage(
        dead_letters=[DeadLetter.of(row) for row in shown], next_cursor=_cursor(shown[-1]) if more else None
    )


@router.get("/{id}")
async def show_dead_letter(row: InPath, _: Operator, services: ServicesOf) -> WholeDeadLetter:
    """Show a dead letter with its record."""
    shown = DeadLetter.of(row).model_dump()
    received = await _record(services, row)
    if received is None:
        return WholeDeadLetter(**shown, kept=False)
    value = received.value
    text, cut = _text(value)
    headers = [_header(name, each) for name, each in received.headers]
    return WholeDeadLetter(**shown, kept=True, headers=headers, value=text, value_cut=cut)


@router.get(
    "/{id}/value",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}, 204: {"description": "a tombstone"}},
)
async def dead_letter_value(row: InPath, _: Operator, services: ServicesOf) -> Response:
    """Return the value of the record, byte for byte."""
    received = await _record(services, row)
    if received is None:
        raise Problem(410, "not_kept", f"the record of dead letter {id_of(row)!r} is not kept any more")
    if received.value is None:
        return Response(status_code=204)
    return Response(received.value, media_type="application/octet-stream")


@router.post("/redrive", status_code=202)
async def redrive_all(body: Chosen, caller: Authenticated, services: ServicesOf, trace: Traceparent) -> Decided:
    """Have all open dead letters of a choice sent again; those of questions are left out, for they have ended."""
    n = await services.letters.decide_all(caller, _filter(body), "redrive", but_stages=ENDED_STAGES)
    await nudge(services, caller, trace)
    return Decided(n=n)


@router.post("/discard")
async def discard_all(body: Chosen, caller: Operator, services: ServicesOf) -> Decided:
    """Decide against all open dead letters of a choice. Their records are kept as long as their topic keeps them."""
    return Decided(n=await services.letters.decide_all(caller, _filter(body), "discarded", but_stages=()))


@router.post("/{id}/redrive", status_code=202)
async def redrive_one(row: InPath, caller: Authenticated, services: ServicesOf, trace: Traceparent) -> DeadLetter:
    """Have a dead letter sent again. A document that got a newer version meanwhile is left as it is."""
    return DeadLetter.of(await redrive(services, caller, row, trace))


async def redrive(services: Services, caller: Caller, row: LetterRow, trace: str) -> LetterRow:
    """Ask for a redrive; return the dead letter as it is then.

    Raises:
        Problem: 409, its question has ended; 503, Postgres is away.
    """
    if row.stage in ENDED_STAGES:
        detail = f"the question of dead letter {id_of(row)!r} has ended with an error; ask it again"
        raise Problem(409, "question_ended", detail)
    # One that waits to be redriven already goes on waiting, in its place.
    if await services.letters.decide(row, "redrive", from_states=("open", "redriven", "discarded")):
        await nudge(services, caller, trace)
    return await services.letters.find(caller, row.stage, row.partition, row.offset) or row


@router.post("/{id}/discard")
async def discard_one(row: InPath, caller: Operator, services: ServicesOf) -> DeadLetter:
    """Decide against a dead letter. Its record is kept as long as its topic keeps it; it can still be redriven."""
    if row.state != "discarded" and not await services.letters.decide(row, "discarded", from_states=("open",)):
        detail = f"dead letter {id_of(row)!r} is not open but {row.state!r}, so there is nothing to decide against"
        raise Problem(409, "not_open", detail)
    return DeadLetter.of(await services.letters.find(caller, row.stage, row.partition, row.offset) or row)


async def nudge(
    services: Services,
    caller: Caller,
    trace: str,
    kind: Literal["redrive", "verify", "gate", "generations", "rebuild"] = "redrive",
) -> None:
    """Wake who carries it out; without it, they look every few seconds."""
    control = ControlSent(kind=kind, tenant=caller.tenant)
    sent = await send(services, CONTROL, control, key=kind.encode(), traceparent=trace)
    sent.add_done_callback(lambda done: done.exception())


def _filter(body: Chosen) -> LetterFilter:
    return _checked(LetterFilter(**body.model_dump(exclude={"all"})), "field")


async def _record(services: Services, row: LetterRow) -> Received | None:
    try:
        async with asyncio.timeout(_RECORD_S):
            return await services.record_at(DEAD_LETTERS.named(row.stage).name, row.partition, row.offset)
    except (KafkaException, MissingTopic, TimeoutError) as error:
        raise unavailable("Kafka", error) from error


def _text(value: bytes | None) -> tuple[str | None, bool]:
    """Return the beginning of a value as text, and whether it was cut."""
    if value is None:
        return None, False
    cut = len(value) > PREVIEW_MAX_BYTES
    try:
        # A cut may go through a character, whose first bytes are left out then.
        return value[:PREVIEW_MAX_BYTES].decode("utf-8", "ignore" if cut else "strict"), cut
    except UnicodeDecodeError:
        return None, cut


def _header(name: str, value: bytes | None) -> Header:
    if value is None:
        return Header(name=name)
    try:
        return Header(name=name, value=value.decode())
    except UnicodeDecodeError:
        return Header(name=name, base64=base64.b64encode(value).decode())


def _cursor(row: LetterRow) -> str:
    place = [round(row.failed_at.timestamp() * 1e6), row.stage, row.partition, row.offset]
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode()


def _read_cursor(cursor: str | None) -> LetterRow | None:
    if cursor is None:
        return None
    try:
        failed_us, stage, partition, offset = json.loads(base64.urlsafe_b64decode(cursor.encode()))
        if not (isinstance(stage, str) and 0 <= int(partition) < 2**31 and 0 <= int(offset) < 2**63):
            raise ValueError(cursor)
        failed_at = datetime.fromtimestamp(int(failed_us) // 1_000_000, UTC)
        failed_at = failed_at.replace(microsecond=int(failed_us) % 1_000_000)
    except (ValueError, TypeError, AttributeError, OverflowError, OSError) as error:
        detail = f"cursor {cursor[:80]!r} is none; send 'next_cursor' of the page before as it came"
        raise Problem(400, "bad_cursor", detail) from error
    place: dict[str, Any] = {"stage": stage, "partition": int(partition), "offset": int(offset)}
    return LetterRow(**place, state="open", failed_at=failed_at, attributes={})
