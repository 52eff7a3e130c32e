"""DELETE of a question, in each of its states."""

import asyncio

import msgspec

from schemas.events import Answer, ControlSent, QueryAsked, QueryFinished, Reply
from schemas.ids import new_query_id
from schemas.topics import ANSWERS, CONTROL, RESULTS
from tests.gateway.factories import ANSWER, Gateway, ask, reply, sources, sse, whole_answer

DONE = {"state": "finished", "attempt": 1, "outcome": "done", "terminal_seq": 3, "answer": msgspec.to_builtins(ANSWER)}


async def test_a_question_that_no_worker_has_is_cancelled_at_once(gateway: Gateway) -> None:
    row = await ask(gateway)

    response = await gateway.acme.delete(f"/v1/queries/{row.id}")

    body = response.json()
    assert response.status_code == 200
    assert (body["id"], body["state"], body["outcome"], body["answer"]) == (row.id, "finished", "cancelled", "")
    assert gateway.sender.events(ControlSent, CONTROL) == []
    assert [each.type for each in gateway.sender.events(Reply, ANSWERS)] == ["cancelled"]
    assert [each.outcome for each in gateway.sender.events(QueryFinished, RESULTS)] == ["cancelled"]
    assert gateway.questions.rows["acme", row.id].published is True


async def test_a_worker_that_hears_of_the_cancel_ends_the_question(gateway: Gateway) -> None:
    row = await ask(gateway, state="claimed", attempt=1)
    ended = {"state": "finished", "outcome": "cancelled", "terminal_seq": 1, "published": True}
    so_far = msgspec.to_builtins(Answer(text="It opens "))
    gateway.questions.on_cancel = lambda query: gateway.questions.change(query, {"claimed"}, answer=so_far, **ended)

    response = await gateway.acme.delete(f"/v1/queries/{row.id}")

    assert (response.json()["outcome"], response.json()["answer"]) == ("cancelled", "It opens ")
    assert gateway.sender.events(ControlSent, CONTROL) == [ControlSent(kind="cancel", tenant="acme", query=row.id)]
    assert gateway.sender.events(Reply, ANSWERS) == []


async def test_a_silent_worker_is_not_waited_for_and_the_text_so_far_is_kept(gateway: Gateway) -> None:
    row = await ask(gateway, state="claimed", attempt=2)
    asked = row.asked
    await gateway.replies.put(
        sources(asked),
        reply(asked, "token", 1, 0, token="Void. "),
        reply(asked, "token", 2, 0, token="It opens "),
        reply(asked, "token", 2, 0, token="It opens "),
        reply(asked, "token", 2, 1, tenant="globex", token="secret"),
        reply(asked, "token", 2, 1, token="at 4.2"),
        reply(asked, "token", 2, 3, token=" after a gap"),
    )

    response = await gateway.acme.delete(f"/v1/queries/{row.id}")

    [cancelled] = gateway.sender.events(Reply, ANSWERS)
    assert (response.json()["outcome"], response.json()["answer"]) == ("cancelled", "It opens at 4.2")
    assert (cancelled.type, cancelled.attempt, cancelled.seq) == ("cancelled", 2, 2)
    assert row.id in gateway.questions.cancel_requested


async def test_a_worker_that_claims_meanwhile_is_asked_too(gateway: Gateway) -> None:
    row = await ask(gateway)
    gateway.questions.before_end = lambda query: gateway.questions.change(
        query, {"pending"}, state="claimed", attempt=1
    )

    response = await gateway.acme.delete(f"/v1/queries/{row.id}")

    assert (response.json()["outcome"], response.json()["attempt"]) == ("cancelled", 1)
    assert len(gateway.sender.events(ControlSent, CONTROL)) == 1


async def test_what_has_ended_stays_as_it_is(gateway: Gateway) -> None:
    row = await ask(gateway, **DONE)

    first = await gateway.acme.delete(f"/v1/queries/{row.id}")
    second = await gateway.acme.delete(f"/v1/queries/{row.id}")

    assert (first.json()["outcome"], first.json()["answer"]) == ("done", ANSWER.text)
    assert second.json() == first.json() == (await gateway.acme.get(f"/v1/queries/{row.id}")).json()
    assert gateway.sender.sent == []


async def test_many_cancels_at_once_end_the_question_once(gateway: Gateway) -> None:
    row = await ask(gateway)

    responses = await asyncio.gather(*(gateway.acme.delete(f"/v1/queries/{row.id}") for _ in range(5)))

    assert {response.json()["outcome"] for response in responses} == {"cancelled"}
    assert len(gateway.sender.events(Reply, ANSWERS)) == 1


async def test_a_foreign_an_unknown_and_a_malformed_question_are_not_cancelled(gateway: Gateway) -> None:
    row = await ask(gateway)

    foreign = await gateway.globex.delete(f"/v1/queries/{row.id}")
    unknown = await gateway.acme.delete(f"/v1/queries/{new_query_id()}")
    malformed = await gateway.acme.delete("/v1/queries/17")

    assert (foreign.status_code, unknown.status_code, malformed.status_code) == (404, 404, 422)
    assert gateway.questions.rows["acme", row.id].state == "pending"


async def test_who_reads_the_stream_is_told_of_the_cancel(gateway: Gateway) -> None:
    begun: asyncio.Future[QueryAsked] = asyncio.get_running_loop().create_future()

    async def begin(asked: QueryAsked) -> None:
        gateway.questions.change(asked.query, {"pending"}, state="claimed", attempt=1)
        await gateway.replies.put(sources(asked), whole_answer(asked)[0])
        begun.set_result(asked)

    gateway.sender.on_question = begin
    streaming = asyncio.create_task(gateway.acme.post("/v1/query", json={"query": "Q?", "stream": True}))
    asked = await begun
    await gateway.acme.delete(f"/v1/queries/{asked.query}")
    events = sse((await streaming).text)

    assert [name for name, _, _ in events] == ["accepted", "sources", "token", "cancelled"]
    assert events[-1][1]["text"] == "It opens "
