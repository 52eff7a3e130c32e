"""What every `LetterRows` does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.auth import Caller
from gateway.letter_rows import PostgresLetterRows
from gateway.ports import LetterFilter, LetterRow, LetterRows
from schemas.dead_letters import Why
from schemas.ids import Tenant
from streams.adapters.postgres_letters import PostgresLetters
from streams.operator.letters import Letter, Place
from tests.doubles.gateway import MemoryDocumentRows
from tests.doubles.letter_rows import MemoryLetterRows
from tests.gateway.factories import document_row

ACME = Caller(tenant=Tenant("acme"), groups=("staff",))
GLOBEX = Caller(tenant=Tenant("globex"))
OPERATOR = Caller(tenant=Tenant("operations"), operator=True)
BEGIN = datetime(2026, 11, 26, 18, tzinfo=UTC)
QUESTION = "0199f0a4-7c1e-7cc0-8a55-0d8f9c3c7b11"


@dataclass(frozen=True, kw_only=True)
class Register:
    """The rows, and how dead letters and documents get there."""

    rows: LetterRows
    put: Callable[[Letter], Awaitable[None]]
    allow: Callable[[str, str, list[str] | None], Awaitable[None]]


def letter(
    offset: int,
    *,
    stage: str = "embed",
    reason: str = "bug",
    tenant: str | None = "acme",
    document: str | None = "guide",
    query: str | None = None,
) -> Letter:
    why = Why(
        stage=stage,
        reason=reason,
        message="m",
        attempts=2,
        topic="t",
        topic_id="i",
        partition=3,
        offset=offset + 100,
        group="rag.embed.g1",
    )
    return Letter(
        place=Place(stage=stage, partition=0, offset=offset),
        why=why,
        failed_ms=round((BEGIN + timedelta(seconds=offset)).timestamp() * 1000),
        tenant=tenant,
        document=document,
        version=4,
        query=query,
        key=b"k\xff",
        n_bytes=12,
    )


def in_memory() -> Register:
    documents = MemoryDocumentRows()
    rows = MemoryLetterRows(documents=documents)

    async def put(each: Letter) -> None:
        attributes: dict[str, Any] = {
            "reason": each.why.reason,
            "message": each.why.message,
            "attempts": each.why.attempts,
            "tenant": each.tenant,
            "document": each.document,
            "version": each.version,
            "query": each.query,
            "key": "k\\xff",
            "n_bytes": each.n_bytes,
            "source_topic": each.why.topic,
            "source_partition": each.why.partition,
            "source_offset": each.why.offset,
            "consumer_group": each.why.group,
            "why": None,
            "changed_at": BEGIN,
        }
        rows.put(
            LetterRow(
                stage=each.place.stage,
                partition=each.place.partition,
                offset=each.place.offset,
                state="open",
                failed_at=datetime.fromtimestamp(each.failed_ms / 1000, UTC),
                attributes=attributes,
            )
        )

    async def allow(tenant: str, document: str, acl: list[str] | None) -> None:
        readable = acl is None or "staff" in acl
        documents.rows[tenant, document] = document_row(document, readable=readable)

    return Register(rows=rows, put=put, allow=allow)


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def register(request: pytest.FixtureRequest) -> Register:
    if request.param == "double":
        return in_memory()
    pool = request.getfixturevalue("pool")

    async def allow(tenant: str, document: str, acl: list[str] | None) -> None:
        await pool.execute("INSERT INTO documents (tenant, document, acl) VALUES ($1, $2, $3)", tenant, document, acl)

    return Register(rows=PostgresLetterRows(pool=pool), put=PostgresLetters(pool=pool).register, allow=allow)


async def offsets(
    register: Register, caller: Caller = OPERATOR, *, before: LetterRow | None = None, limit: int = 9, **wanted: Any
) -> list[int]:
    rows = await register.rows.page(caller, LetterFilter(**wanted), before=before, limit=limit)
    return [row.offset for row in rows]


async def test_the_newest_come_first_page_by_page(register: Register) -> None:
    for offset in (3, 1, 2):
        await register.put(letter(offset))
    [first] = await register.rows.page(OPERATOR, LetterFilter(), before=None, limit=1)

    assert first.offset == 3
    assert await offsets(register, before=first) == [2, 1]


async def test_a_dead_letter_says_what_was_registered(register: Register) -> None:
    await register.put(letter(1, query=QUESTION))

    row = await register.rows.find(OPERATOR, "embed", 0, 1)

    assert row is not None
    told = dict(row.attributes)
    told.pop("changed_at")
    assert (row.state, row.failed_at) == ("open", BEGIN + timedelta(seconds=1))
    assert told == {
        "reason": "bug",
        "message": "m",
        "attempts": 2,
        "tenant": "acme",
        "document": "guide",
        "version": 4,
        "query": QUESTION,
        "key": "k\\xff",
        "n_bytes": 12,
        "source_topic": "t",
        "source_partition": 3,
        "source_offset": 101,
        "consumer_group": "rag.embed.g1",
        "why": None,
    }


async def test_filters_choose(register: Register) -> None:
    await register.put(letter(1, stage="chunk"))
    await register.put(letter(2, reason="deadline"))
    await register.put(letter(3, tenant="globex", document="other"))

    assert await offsets(register, stage="chunk") == [1]
    assert await offsets(register, reason="deadline") == [2]
    assert await offsets(register, tenant="globex") == [3]
    assert await offsets(register, document="guide") == [2, 1]
    assert await offsets(register, state="open", tenant="acme") == [2, 1]
    assert await offsets(register, since=BEGIN + timedelta(seconds=2)) == [3, 2]
    assert await offsets(register, until=BEGIN + timedelta(seconds=2)) == [1]
    assert await offsets(register, state="discarded") == []


async def test_a_tenant_sees_what_it_may_read_and_nothing_else(register: Register) -> None:
    await register.allow("acme", "guide", None)
    await register.allow("acme", "secret", ["board"])
    await register.allow("globex", "guide", None)
    await register.put(letter(1))
    await register.put(letter(2, document="secret"))
    await register.put(letter(3, tenant="globex"))
    await register.put(letter(4, tenant=None, document=None))
    await register.put(letter(5, stage="score", document=None, query=QUESTION))

    assert await offsets(register, ACME) == [5, 1]
    assert await offsets(register, GLOBEX) == [3]
    assert await offsets(register, OPERATOR) == [5, 4, 3, 2, 1]
    assert await register.rows.find(ACME, "embed", 0, 3) is None
    assert await register.rows.find(ACME, "embed", 0, 2) is None


async def test_a_decision_holds_where_the_state_allows_it(register: Register) -> None:
    await register.put(letter(1))
    row = await register.rows.find(OPERATOR, "embed", 0, 1)
    assert row is not None

    assert await register.rows.decide(row, "discarded", from_states=("open",))
    assert not await register.rows.decide(row, "discarded", from_states=("open",))
    assert await offsets(register, state="discarded") == [1]


async def test_a_choice_is_decided_at_once_within_what_the_caller_sees(register: Register) -> None:
    await register.allow("acme", "guide", None)
    await register.put(letter(1))
    await register.put(letter(2, reason="deadline"))
    await register.put(letter(3, tenant="globex"))
    await register.put(letter(4, stage="generate", document=None, query=QUESTION))

    decided = await register.rows.decide_all(
        ACME, LetterFilter(reason="bug"), "redrive", but_stages=("retrieve", "generate")
    )

    assert decided == 1
    assert await offsets(register, state="redrive") == [1]
    assert await register.rows.decide_all(OPERATOR, LetterFilter(), "discarded", but_stages=()) == 3
