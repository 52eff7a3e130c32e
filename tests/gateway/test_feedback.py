"""What readers think of answers."""

from typing import Any

import msgspec
import pytest

from schemas.events import FeedbackGiven
from schemas.ids import new_query_id
from schemas.topics import FEEDBACK
from tests.gateway.factories import ANSWER, Gateway, ask

DONE = {"state": "finished", "attempt": 1, "outcome": "done", "terminal_seq": 3, "answer": msgspec.to_builtins(ANSWER)}
WHOLE = {"rating": "down", "comment": "Wrong gate.", "correction": "4.5 metres.", "user_id": "ada"}


async def test_feedback_is_sent_on_and_kept_with_the_question(gateway: Gateway) -> None:
    row = await ask(gateway, **DONE)

    response = await gateway.acme.post(f"/v1/queries/{row.id}/feedback", json=WHOLE)

    [given] = gateway.sender.events(FeedbackGiven, FEEDBACK)
    shown = (await gateway.acme.get(f"/v1/queries/{row.id}")).json()["feedback"]
    assert (response.status_code, response.json()) == (202, WHOLE)
    assert shown == WHOLE
    assert msgspec.structs.replace(given, given_ms=0) == FeedbackGiven(
        query=row.id,
        tenant="acme",
        rating="down",
        given_ms=0,
        comment="Wrong gate.",
        correction="4.5 metres.",
        user="ada",
    )
    assert gateway.sender.sent[0][1] == row.id.encode()


async def test_later_feedback_replaces_earlier(gateway: Gateway) -> None:
    row = await ask(gateway, **DONE)

    await gateway.acme.post(f"/v1/queries/{row.id}/feedback", json=WHOLE)
    await gateway.acme.post(f"/v1/queries/{row.id}/feedback", json={"rating": "up"})

    shown = (await gateway.acme.get(f"/v1/queries/{row.id}")).json()["feedback"]
    assert shown == {"rating": "up", "comment": None, "correction": None, "user_id": None}
    assert [given.rating for given in gateway.sender.events(FeedbackGiven, FEEDBACK)] == ["down", "up"]


async def test_a_question_that_has_not_ended_takes_no_feedback(gateway: Gateway) -> None:
    row = await ask(gateway)

    response = await gateway.acme.post(f"/v1/queries/{row.id}/feedback", json=WHOLE)

    assert (response.status_code, response.json()["type"]) == (409, "urn:headrace:problem:not_finished")
    assert gateway.sender.sent == []


async def test_nobody_judges_the_answers_of_another_tenant(gateway: Gateway) -> None:
    row = await ask(gateway, **DONE)

    foreign = await gateway.globex.post(f"/v1/queries/{row.id}/feedback", json=WHOLE)
    unknown = await gateway.acme.post(f"/v1/queries/{new_query_id()}/feedback", json=WHOLE)

    assert (foreign.status_code, unknown.status_code) == (404, 404)
    assert gateway.questions.rows["acme", row.id].feedback is None


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/rating"),
        ({"rating": "great"}, "/rating"),
        ({"rating": "up", "comment": "c" * 4_001}, "/comment"),
        ({"rating": "up", "correction": "c" * 16_001}, "/correction"),
        ({"rating": "up", "comment": "a\x00b"}, "/comment"),
        ({"rating": "up", "stars": 5}, "/stars"),
    ],
)
async def test_malformed_feedback_is_refused(gateway: Gateway, body: dict[str, Any], pointer: str) -> None:
    row = await ask(gateway, **DONE)

    response = await gateway.acme.post(f"/v1/queries/{row.id}/feedback", json=body)

    assert (response.status_code, response.json()["errors"][0]["pointer"]) == (422, pointer)


async def test_feedback_that_kafka_does_not_take_is_not_kept(gateway: Gateway) -> None:
    row = await ask(gateway, **DONE)
    gateway.sender.away = True

    response = await gateway.acme.post(f"/v1/queries/{row.id}/feedback", json=WHOLE)

    assert response.status_code == 503
    assert gateway.questions.rows["acme", row.id].feedback is None
