"""Routes of dead letters, on doubles."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import KafkaException

from backbone.kafka import Received
from gateway.ports import LetterRow
from schemas.events import ControlSent
from schemas.topics import CONTROL, INGEST, STAGES
from tests.gateway.factories import Gateway, document_row

AT = datetime(2026, 11, 26, 18, tzinfo=UTC)


def letter(offset: int, *, stage: str = "embed", state: str = "open", tenant: str = "acme", **more: Any) -> LetterRow:
    attributes = {
        "reason": "bug",
        "message": "m",
        "attempts": 1,
        "tenant": tenant,
        "document": "guide",
        "version": 4,
        "query": None,
        "key": f"{tenant}/guide",
        "n_bytes": 3,
        "source_topic": "t",
        "source_partition": 3,
        "source_offset": 9,
        "why": None,
        "changed_at": AT,
    }
    return LetterRow(stage=stage, partition=0, offset=offset, state=state, failed_at=AT, attributes=attributes | more)


@pytest.fixture
def stocked(gateway: Gateway) -> Gateway:
    """Two dead letters of acme and one of globex."""
    gateway.documents.rows["acme", "guide"] = document_row("guide")
    gateway.documents.rows["globex", "guide"] = document_row("guide")
    for row in (letter(1), letter(2, stage="intake"), letter(3, tenant="globex")):
        gateway.letters.put(row)
    return gateway


def record(value: bytes | None, headers: Any = ()) -> Received:
    return Received(
        topic="rag.embed.dlq.v1", partition=0, offset=1, key=b"k", value=value, headers=headers, timestamp_ms=1
    )


async def ids(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [each["id"] for each in response.json()["dead_letters"]]


async def test_each_sees_its_own_and_an_operator_sees_all(stocked: Gateway) -> None:
    assert await ids(await stocked.acme.get("/v1/dead-letters")) == ["intake.0.2", "embed.0.1"]
    assert await ids(await stocked.globex.get("/v1/dead-letters")) == ["embed.0.3"]
    assert len(await ids(await stocked.operator.get("/v1/dead-letters"))) == 3
    assert (await stocked.anyone.get("/v1/dead-letters")).status_code == 401


async def test_pages_follow_each_other(stocked: Gateway) -> None:
    first = await stocked.operator.get("/v1/dead-letters?limit=2")
    second = await stocked.operator.get("/v1/dead-letters", params={"cursor": first.json()["next_cursor"]})

    assert await ids(first) + await ids(second) == ["intake.0.2", "embed.0.3", "embed.0.1"]
    assert second.json()["next_cursor"] is None


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("stage=nonsense", 422),
        ("state=nonsense", 422),
        ("since=yesterday", 422),
        ("since=2026-11-26T18:00:00", 422),
        ("limit=0", 422),
        ("cursor=nonsense", 400),
        ("document=%00", 422),
    ],
)
async def test_a_bad_filter_is_refused(stocked: Gateway, query: str, status: int) -> None:
    response = await stocked.operator.get(f"/v1/dead-letters?{query}")

    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")


async def test_an_operator_is_shown_the_record(stocked: Gateway) -> None:
    headers = [("a", None), ("a", b"\xff"), ("b", b"text")]
    stocked.records["rag.embed.dlq.v1", 0, 1] = record(b'{"x": 1}', headers)

    shown = (await stocked.operator.get("/v1/dead-letters/embed.0.1")).json()

    assert (shown["kept"], shown["value"], shown["value_cut"]) == (True, '{"x": 1}', False)
    assert shown["headers"] == [
        {"name": "a", "value": None, "base64": None},
        {"name": "a", "value": None, "base64": "/w=="},
        {"name": "b", "value": "text", "base64": None},
    ]


async def test_a_long_value_is_cut_and_bytes_are_not_shown_as_text(stocked: Gateway) -> None:
    stocked.records["rag.embed.dlq.v1", 0, 1] = record("ü".encode() * 4_000)
    long = (await stocked.operator.get("/v1/dead-letters/embed.0.1")).json()
    stocked.records["rag.embed.dlq.v1", 0, 1] = record(b"\xff\x00")
    binary = (await stocked.operator.get("/v1/dead-letters/embed.0.1")).json()

    assert (set(long["value"]), long["value_cut"]) == ({"ü"}, True)
    assert (binary["value"], binary["value_cut"]) == (None, False)


async def test_the_value_is_given_byte_for_byte(stocked: Gateway) -> None:
    stocked.records["rag.embed.dlq.v1", 0, 1] = record(b"\x00\xff")
    whole = await stocked.operator.get("/v1/dead-letters/embed.0.1/value")
    stocked.records["rag.embed.dlq.v1", 0, 1] = record(None)
    tombstone = await stocked.operator.get("/v1/dead-letters/embed.0.1/value")
    del stocked.records["rag.embed.dlq.v1", 0, 1]
    gone = await stocked.operator.get("/v1/dead-letters/embed.0.1/value")

    assert whole.content == b"\x00\xff"
    assert (tombstone.status_code, gone.status_code) == (204, 410)
    assert (await stocked.operator.get("/v1/dead-letters/embed.0.1")).json()["kept"] is False


@pytest.mark.parametrize(
    "path", ["/v1/dead-letters/embed.0.1", "/v1/dead-letters/embed.0.1/value", "/v1/dead-letters/embed.0.1/discard"]
)
async def test_records_and_discarding_need_an_operators_key(stocked: Gateway, path: str) -> None:
    method = "POST" if path.endswith("discard") else "GET"

    response = await stocked.acme.request(method, path)

    assert (response.status_code, response.json()["type"]) == (403, "urn:headrace:problem:not_operator")


@pytest.mark.parametrize("stage", STAGES)
async def test_a_dead_letter_of_every_stage_is_found_by_its_id(stocked: Gateway, stage: str) -> None:
    stocked.letters.put(letter(8, stage=stage))

    assert (await stocked.operator.get(f"/v1/dead-letters/{stage}.0.8")).json()["stage"] == stage


async def test_another_tenants_dead_letter_is_not_there(stocked: Gateway) -> None:
    assert (await stocked.acme.post("/v1/dead-letters/embed.0.3/redrive")).status_code == 404
    assert (await stocked.acme.post("/v1/dead-letters/embed.0.99/redrive")).status_code == 404
    assert (await stocked.acme.post("/v1/dead-letters/nonsense/redrive")).status_code == 422


async def test_the_owner_has_it_sent_again_and_the_operator_stage_is_woken(stocked: Gateway) -> None:
    response = await stocked.acme.post("/v1/dead-letters/embed.0.1/redrive")

    assert (response.status_code, response.json()["state"]) == (202, "redrive")
    assert [control.kind for control in stocked.sender.events(ControlSent, CONTROL)] == ["redrive"]


async def test_a_question_that_ended_is_not_sent_again(stocked: Gateway) -> None:
    stocked.letters.put(letter(7, stage="generate", document=None))

    response = await stocked.acme.post("/v1/dead-letters/generate.0.7/redrive")

    assert (response.status_code, response.json()["type"]) == (409, "urn:headrace:problem:question_ended")


async def test_only_what_is_open_is_discarded_and_twice_is_once(stocked: Gateway) -> None:
    first = await stocked.operator.post("/v1/dead-letters/embed.0.1/discard")
    again = await stocked.operator.post("/v1/dead-letters/embed.0.1/discard")
    stocked.letters.put(letter(3, state="redriven"))
    late = await stocked.operator.post("/v1/dead-letters/embed.0.3/discard")

    assert [first.json()["state"], again.json()["state"], late.status_code] == ["discarded", "discarded", 409]


async def test_a_choice_is_decided_at_once(stocked: Gateway) -> None:
    mine = await stocked.acme.post("/v1/dead-letters/redrive", json={"all": True})
    rest = await stocked.operator.post("/v1/dead-letters/discard", json={"reason": "bug"})

    assert (mine.status_code, mine.json()) == (202, {"n": 2})
    assert (rest.status_code, rest.json()) == (200, {"n": 1})


@pytest.mark.parametrize(
    "body", [{}, {"all": False}, {"all": True, "stage": "embed"}, {"stage": "x"}, {"stages": "embed"}]
)
async def test_a_choice_of_everything_is_never_an_accident(stocked: Gateway, body: dict[str, Any]) -> None:
    assert (await stocked.operator.post("/v1/dead-letters/redrive", json=body)).status_code == 422


async def test_while_kafka_is_away_records_are_not_shown(stocked: Gateway) -> None:
    stocked.broken["kafka"] = KafkaException("away")

    response = await stocked.operator.get("/v1/dead-letters/embed.0.1")

    assert (response.status_code, response.headers["retry-after"]) == (503, "2")


# --- trying a document again --------------------------------------------------------------------------

FAILED = {"stage": "embed", "reason": "bug", "message": "m"}


async def test_the_owner_tries_a_failed_document_again(stocked: Gateway) -> None:
    row = document_row("guide", status="failed", attributes={"failure": FAILED})
    stocked.documents.rows["acme", "guide"] = row

    response = await stocked.acme.post("/v1/documents/guide/retry")

    assert (response.status_code, response.json()["how"]) == (202, "redrive")
    assert response.json()["dead_letter"]["state"] == "redrive"


async def test_without_a_dead_letter_its_version_is_done_again(stocked: Gateway) -> None:
    stocked.letters.rows.clear()
    stocked.documents.rows["acme", "guide"] = document_row(
        "guide", status="failed", attributes={"failure": FAILED, "latest_version": 3}
    )

    response = await stocked.acme.post("/v1/documents/guide/retry")

    assert (response.status_code, response.json()["how"], response.json()["version"]) == (202, "reissue", 3)
    [(topic, key, value, headers)] = stocked.sender.sent
    assert (topic, key, value, headers["hr_reissue"]) == (INGEST.name, b"acme/guide", b"{}", b"3")


async def test_a_document_that_does_not_get_on_is_done_again(stocked: Gateway) -> None:
    stocked.documents.rows["acme", "guide"] = document_row("guide", status="chunked")

    assert (await stocked.acme.post("/v1/documents/guide/retry")).json()["how"] == "reissue"


async def test_what_has_not_failed_or_is_not_kept_is_not_tried_again(stocked: Gateway) -> None:
    fine = await stocked.acme.post("/v1/documents/guide/retry")
    stocked.letters.rows.clear()
    rejected = document_row("guide", status="failed", attributes={"failure": FAILED | {"stage": "intake"}})
    stocked.documents.rows["acme", "guide"] = rejected
    lost = await stocked.acme.post("/v1/documents/guide/retry")
    stocked.documents.rows["acme", "guide"] = replace(rejected, readable=False)
    hidden = await stocked.acme.post("/v1/documents/guide/retry")

    assert [fine.json()["type"], lost.json()["type"], hidden.json()["type"]] == [
        "urn:headrace:problem:nothing_failed",
        "urn:headrace:problem:not_kept",
        "urn:headrace:problem:no_document",
    ]


async def test_while_kafka_is_away_nothing_is_tried_again(stocked: Gateway) -> None:
    stocked.documents.rows["acme", "guide"] = document_row("guide", status="chunked")
    stocked.sender.away = True

    assert (await stocked.acme.post("/v1/documents/guide/retry")).status_code == 503
