"""Registering dead letters as a function of a record."""

import json

import pytest

from schemas.dead_letters import Why
from schemas.events import Event
from streams.errors import Unprocessable
from streams.operator.handler import Register
from streams.operator.letters import Place
from streams.runtime.record import Inbound, Origin
from tests.doubles.letter_store import MemoryLetters

QUERY = "0199f0a4-7c1e-7cc0-8a55-0d8f9c3c7b11"


def letter(stage: str, key: bytes | None, raw: bytes | None, version: int | None = None) -> Inbound[Event]:
    why = Why(stage=stage, reason="bug", message="m", attempts=1, topic="t", topic_id="i", partition=2, offset=5)
    return Inbound(
        key=key,
        event=None,
        raw=raw,
        headers=dict(why.headers()),
        version=version,
        origin=Origin(topic=f"rag.{stage}.dlq.v1", topic_id="d", partition=0, offset=9),
        timestamp_ms=700,
    )


async def registered(record: Inbound[Event]) -> tuple[str | None, str | None, int | None, str | None]:
    letters = MemoryLetters()
    assert [out async for out in Register(letters=letters)(record)] == []
    (row,) = letters.rows.values()
    assert row.letter.place == Place(stage=Why.of(record.headers).stage, partition=0, offset=9)
    assert (row.letter.failed_ms, row.letter.n_bytes) == (700, len(record.raw or b""))
    return row.letter.tenant, row.letter.document, row.letter.version, row.letter.query


async def test_of_a_documents_record_the_document_is_known() -> None:
    assert await registered(letter("embed", b"acme/a/b.md", b"{", 4)) == ("acme", "a/b.md", 4, None)
    assert await registered(letter("index", b"acme/guide", None, 4)) == ("acme", "guide", 4, None)


@pytest.mark.parametrize("key", [None, b"\xff", b"no-slash"])
async def test_a_record_without_a_key_is_nobodys(key: bytes | None) -> None:
    assert await registered(letter("intake", key, b"x")) == (None, None, None, None)


async def test_of_a_questions_record_the_question_and_its_tenant_are_known() -> None:
    raw = json.dumps({"tenant": "acme", "text": "why?"}).encode()

    assert await registered(letter("generate", QUERY.encode(), raw)) == ("acme", None, None, QUERY)


@pytest.mark.parametrize("raw", [None, b"", b"\xff", b"[]", b'{"tenant": 3}'])
async def test_a_question_that_cannot_be_read_is_registered_all_the_same(raw: bytes | None) -> None:
    assert await registered(letter("retrieve", b"?", raw)) == (None, None, None, None)


async def test_what_is_no_dead_letter_is_refused() -> None:
    record = letter("embed", b"acme/guide", b"{}")
    stranger: Inbound[Event] = Inbound(key=record.key, event=None, raw=b"{}", origin=record.origin, timestamp_ms=1)

    with pytest.raises(Unprocessable, match="hr_dlq_"):
        await registered(stranger)
