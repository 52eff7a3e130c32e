import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from headrace.client import (
    AnswerEvent,
    AsyncClient,
    Busy,
    Client,
    HeadraceError,
    NotFound,
    Refused,
    Unauthorized,
    Unreachable,
    joined,
)

Handler = Callable[[httpx.Request], httpx.Response]
Sent = tuple[str, dict[str, Any], str | None]


def client(handler: Handler) -> Client:
    return Client("http://gateway", "key", patience_s=0, transport=httpx.MockTransport(handler))


def problem(status: int, detail: str, **headers: str) -> httpx.Response:
    body = {
        "type": "about:blank",
        "title": "Refused",
        "status": status,
        "detail": detail,
        "errors": [{"pointer": "/query"}],
    }
    return httpx.Response(status, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_a_document_id_with_a_slash_stays_one_part_of_the_path() -> None:
    paths = []

    def handler(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.raw_path)
        return httpx.Response(200, text="parsed")

    assert client(handler).content("docs/a b.md") == "parsed"
    assert paths == [b"/v1/documents/docs%2Fa%20b.md/content"]


def test_a_patch_travels_as_a_merge_patch_with_a_key_of_its_own() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.raw_path) == ("PATCH", b"/v1/documents/a%2Fb.md")
        assert request.headers["content-type"] == "application/merge-patch+json"
        assert request.headers["idempotency-key"]
        assert request.read() == b'{"metadata":{"draft":null}}'
        return httpx.Response(202, json={"id": "a/b.md", "url": "/v1/documents/a%2Fb.md", "submission": "0:7"})

    assert client(handler).patch("a/b.md", {"metadata": {"draft": None}})["submission"] == "0:7"


def test_the_key_travels_as_a_bearer_token() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer key"
        return httpx.Response(202, json={"documents": [{"id": "a", "url": "/v1/documents/a", "submission": "0:7"}]})

    assert client(handler).ingest([{"id": "a", "text": "x"}])[0]["submission"] == "0:7"


def test_lookup_sends_the_submissions_it_is_given() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert json.loads(request.content) == {"documents": [{"id": "a", "submission": "0:7"}, {"id": "b"}]}
        return httpx.Response(200, json={"documents": [{"status": "submitted"}, {"status": "unknown"}]})

    assert [each["status"] for each in client(handler).lookup([("a", "0:7"), ("b", None)])] == ["submitted", "unknown"]


@pytest.mark.parametrize(
    ("status", "kind"), [(401, Unauthorized), (403, Unauthorized), (404, NotFound), (422, Refused), (503, Busy)]
)
def test_an_error_of_the_gateway_becomes_an_exception_with_its_detail(status: int, kind: type[Refused]) -> None:
    with pytest.raises(kind) as caught:
        client(lambda _: problem(status, "query is empty; send a question")).query("x")

    assert caught.value.detail == "query is empty; send a question"
    assert caught.value.status == status
    assert caught.value.errors == [{"pointer": "/query"}]


def test_an_error_without_a_problem_document_is_still_clear() -> None:
    with pytest.raises(Refused, match="HTTP 502 Bad Gateway"):
        client(lambda _: httpx.Response(502, text="<html>")).search("x")


def test_a_busy_gateway_says_when_to_come_back() -> None:
    with pytest.raises(Busy) as caught:
        client(lambda _: problem(429, "too many questions", Retry_After="7")).query("x")

    assert caught.value.retry_after_s == 7.0


def test_a_gateway_that_is_away_is_a_sentence() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused", request=request)

    with pytest.raises(Unreachable, match=r"no answer from the gateway at http://gateway \(Connection refused\)"):
        client(handler).documents()


ACCEPTED: Sent = ("accepted", {"id": "q"}, None)
SOURCES: Sent = ("sources", {"sources": [{"chunk_id": "c1"}]}, "2:14")
FIRST: Sent = ("token", {"text": "At 80 "}, "2:15")
SECOND: Sent = ("token", {"text": "bar."}, "2:16")
ANSWER: Sent = ("answer", {"id": "q", "answer": "At 80 bar."}, "2:17")
DONE: Sent = ("done", {"latency_ms": 9.5}, "2:18")
RESET: Sent = ("reset", {"attempt": 2}, None)
WHOLE = [ACCEPTED, SOURCES, FIRST, SECOND, ANSWER, DONE]


class Streamed(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The body of a stream that may break off."""

    def __init__(self, events: Sequence[Sent], broken: bool) -> None:
        self.chunks = [": heartbeat\n\n"]
        for name, data, place in events:
            self.chunks.append((f"id: {place}\n" if place else "") + f"event: {name}\ndata: {json.dumps(data)}\n\n")
        self.broken = broken

    def __iter__(self) -> Iterator[bytes]:
        yield from (chunk.encode() for chunk in self.chunks)
        if self.broken:
            raise httpx.ReadError("connection reset by peer")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk


def streamed(*events: Sent, broken: bool = False) -> httpx.Response:
    return httpx.Response(200, stream=Streamed(events, broken), headers={"content-type": "text/event-stream"})


@dataclass
class Script:
    """Gateways that answer each request with the next of what they are told, and keep the requests."""

    answers: list[httpx.Response | Exception]
    requests: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    @property
    def seen(self) -> list[str]:
        """Method, host, path and Last-Event-ID of each request."""
        return [
            " ".join([each.method, each.url.host, each.url.path, *each.headers.get_list("last-event-id")])
            for each in self.requests
        ]


async def heard(asynchronous: bool, script: Handler, *, patience_s: float = 30) -> list[AnswerEvent]:
    """Ask two gateways over the blocking or the asynchronous client, and return all events."""
    urls, transport = ["http://one", "http://two"], httpx.MockTransport(script)
    if asynchronous:
        async with AsyncClient(urls=urls, api_key="key", patience_s=patience_s, transport=transport) as asking:
            return [event async for event in asking.query_stream("x")]
    with Client(urls=urls, api_key="key", patience_s=patience_s, transport=transport) as blocking:
        return list(blocking.query_stream("x"))


both = pytest.mark.parametrize("asynchronous", [False, True], ids=["blocking", "asynchronous"])


def names(events: Sequence[AnswerEvent]) -> list[str]:
    return [event.event for event in events]


@both
async def test_a_stream_yields_the_events_in_order_with_their_places_in_the_log(asynchronous: bool) -> None:
    events = await heard(asynchronous, Script([streamed(*WHOLE)]))

    assert names(events) == ["accepted", "sources", "token", "token", "answer", "done"]
    assert [event.id for event in events] == [None, "2:14", "2:15", "2:16", "2:17", "2:18"]
    assert events[2].data == {"text": "At 80 "}


@both
@pytest.mark.parametrize("broken", [True, False], ids=["reset", "closed"])
async def test_a_stream_that_breaks_goes_on_at_the_next_gateway_from_its_place(
    asynchronous: bool, broken: bool
) -> None:
    script = Script([streamed(*WHOLE[:3], broken=broken), streamed(SECOND, broken=broken), streamed(ANSWER, DONE)])

    events = await heard(asynchronous, script)

    assert names(events) == ["accepted", "sources", "token", "token", "answer", "done"]
    assert joined(events) == "At 80 bar."
    assert script.seen == [
        "POST one /v1/query",
        "GET two /v1/queries/q/events 2:15",
        "GET one /v1/queries/q/events 2:16",
    ]


@both
async def test_a_stream_that_breaks_before_its_first_place_is_read_from_the_beginning(asynchronous: bool) -> None:
    script = Script([streamed(ACCEPTED, broken=True), streamed(*WHOLE)])

    events = await heard(asynchronous, script)

    assert names(events) == ["accepted", "sources", "token", "token", "answer", "done"]
    assert script.seen == ["POST one /v1/query", "GET two /v1/queries/q/events"]


@both
async def test_a_question_whose_answer_is_lost_is_sent_again_with_its_key(asynchronous: bool) -> None:
    script = Script([httpx.ReadError("gone"), httpx.ConnectError("refused"), streamed(*WHOLE)])

    events = await heard(asynchronous, script)

    assert names(events)[-1] == "done"
    assert script.seen == ["POST one /v1/query", "POST two /v1/query", "POST one /v1/query"]
    assert len({request.headers["idempotency-key"] for request in script.requests}) == 1


@both
async def test_a_gateway_that_is_away_is_passed_over(asynchronous: bool) -> None:
    script = Script([httpx.ConnectError("refused"), streamed(*WHOLE)])

    assert names(await heard(asynchronous, script))[-1] == "done"


@both
async def test_where_every_gateway_is_away_a_question_fails_at_once(asynchronous: bool) -> None:
    script = Script([httpx.ConnectError("refused"), httpx.ConnectError("refused")])

    with pytest.raises(Unreachable, match="http://two"):
        await heard(asynchronous, script)


@both
async def test_a_stream_that_is_never_heard_of_again_ends_with_a_sentence(asynchronous: bool) -> None:
    script = Script([streamed(ACCEPTED, FIRST, broken=True), httpx.ConnectError("refused")])

    with pytest.raises(Unreachable, match="no answer from the gateway at http://two"):
        await heard(asynchronous, script, patience_s=0)


@both
async def test_a_busy_gateway_is_waited_for_with_the_same_key(asynchronous: bool) -> None:
    busy = {"status": 429, "title": "Busy", "detail": "too many questions", "retry_after_ms": 20}
    script = Script([httpx.Response(429, json=busy, headers={"Retry-After": "1"}), streamed(*WHOLE)])
    began = time.monotonic()

    events = await heard(asynchronous, script)

    assert names(events)[-1] == "done"
    assert 0.02 <= time.monotonic() - began < 1
    assert len({request.headers["idempotency-key"] for request in script.requests}) == 1


@both
async def test_a_gateway_that_stays_busy_for_too_long_is_an_error(asynchronous: bool) -> None:
    with pytest.raises(Busy, match="too many questions"):
        await heard(asynchronous, lambda _: problem(429, "too many questions", Retry_After="31"))


@both
async def test_a_proxy_that_fails_while_an_answer_is_sent_is_a_stream_that_broke(asynchronous: bool) -> None:
    script = Script([streamed(*WHOLE[:2], broken=True), problem(502, "no upstream"), streamed(*WHOLE[2:])])

    assert joined(await heard(asynchronous, script)) == "At 80 bar."


@both
async def test_a_gateway_that_knows_of_nothing_more_before_the_end_is_asked_again(asynchronous: bool) -> None:
    script = Script([streamed(*WHOLE[:3], broken=True), httpx.Response(204), streamed(*WHOLE[3:])])

    assert joined(await heard(asynchronous, script)) == "At 80 bar."


@both
async def test_a_reset_is_passed_on_and_voids_the_tokens_before_it(asynchronous: bool) -> None:
    again = [SOURCES, ("token", {"text": "At 82 bar."}, "2:19"), ("answer", {"id": "q"}, "2:20"), DONE]
    script = Script([streamed(*WHOLE[:3], broken=True), streamed(RESET, *again)])

    events = await heard(asynchronous, script)

    assert names(events) == ["accepted", "sources", "token", "reset", "sources", "token", "answer", "done"]
    assert joined(events) == "At 82 bar."


@both
async def test_what_a_resumed_stream_tells_again_is_told_once(asynchronous: bool) -> None:
    stored = ("answer", {"id": "q", "answer": "At 80 bar."}, None)
    score = ("score", {"faithfulness": 1.0}, None)
    script = Script(
        [
            streamed(ACCEPTED, SOURCES, stored, score, broken=True),
            streamed(ACCEPTED, SOURCES, stored, score, DONE, broken=True),
        ]
    )

    assert names(await heard(asynchronous, script)) == ["accepted", "sources", "answer", "score", "done"]


@both
async def test_nothing_is_told_after_the_end(asynchronous: bool) -> None:
    cancelled = ("cancelled", {"id": "q", "text": "At 80 "}, "2:16")
    script = Script([streamed(*WHOLE[:3], cancelled, DONE, broken=True)])

    assert names(await heard(asynchronous, script)) == ["accepted", "sources", "token", "cancelled"]


@both
async def test_a_refused_stream_raises_before_the_first_event(asynchronous: bool) -> None:
    with pytest.raises(Unauthorized, match="unknown key"):
        await heard(asynchronous, lambda _: problem(401, "unknown key"))


@both
async def test_what_sends_no_events_is_no_gateway(asynchronous: bool) -> None:
    with pytest.raises(HeadraceError, match="Is it a gateway"):
        await heard(asynchronous, lambda _: httpx.Response(200, text="<html>"))


def test_a_question_is_followed_from_a_place_cancelled_and_judged() -> None:
    answers: list[httpx.Response | Exception] = [
        streamed(SECOND, ANSWER, DONE),
        httpx.Response(200, json={"id": "q", "state": "finished", "outcome": "cancelled"}),
        httpx.Response(202, json={}),
        httpx.Response(200, json={"id": "q", "answer": "At 80 bar."}),
    ]
    script = Script(answers)
    found = client(script)

    assert names(list(found.events("q", after="2:15"))) == ["token", "answer", "done"]
    assert found.cancel("q")["outcome"] == "cancelled"
    found.feedback("q", "down", comment="wrong unit")
    assert found.question("q")["answer"] == "At 80 bar."
    assert script.seen == [
        "GET gateway /v1/queries/q/events 2:15",
        "DELETE gateway /v1/queries/q",
        "POST gateway /v1/queries/q/feedback",
        "GET gateway /v1/queries/q",
    ]
    assert json.loads(script.requests[2].content) == {"rating": "down", "comment": "wrong unit"}


def test_after_the_end_there_is_nothing_to_follow() -> None:
    assert list(client(lambda _: httpx.Response(204)).events("q", after="2:18")) == []


async def test_many_streams_that_lose_their_gateway_all_turn_to_the_next_one() -> None:
    def script(request: httpx.Request) -> httpx.Response:
        if request.url.host == "one":
            return streamed(ACCEPTED, SOURCES, broken=True)
        return streamed(*WHOLE[2:])

    transport = httpx.MockTransport(script)
    async with AsyncClient(urls=["http://one", "http://two"], api_key="key", transport=transport) as asking:

        async def ask() -> list[AnswerEvent]:
            return [event async for event in asking.query_stream("x")]

        told = await asyncio.gather(*(ask() for _ in range(6)))

    assert [joined(events) for events in told] == ["At 80 bar."] * 6


async def test_the_asynchronous_client_refuses_alike() -> None:
    refusing = httpx.MockTransport(lambda _: problem(404, "no such document"))
    async with AsyncClient("http://gateway", "key", transport=refusing) as found:
        with pytest.raises(NotFound, match="no such document"):
            await found.document("a")


def test_files_travel_as_a_form_with_what_is_said_of_each() -> None:
    bodies = []

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v1/documents"
        assert request.headers["content-type"].startswith("multipart/form-data")
        assert request.headers["idempotency-key"] == "k"
        bodies.append(request.read())
        return httpx.Response(202, json={"documents": [{"id": "a", "url": "/v1/documents/a", "submission": "0:7"}]})

    receipts = client(handler).upload(
        [{"content": b"%PDF-\x00", "filename": "größe.pdf", "title": "A"}], idempotency_key="k"
    )

    assert receipts[0]["submission"] == "0:7"
    assert b'[{"title":"A"}]' in bodies[0]
    assert 'filename="größe.pdf"'.encode() in bodies[0]
    assert b"%PDF-\x00" in bodies[0]
