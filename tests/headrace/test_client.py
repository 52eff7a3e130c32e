import json
from collections.abc import Callable

import httpx
import pytest

from headrace.client import AsyncClient, Busy, Client, NotFound, Refused, Unauthorized, Unreachable

Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler) -> Client:
    return Client("http://gateway", "key", transport=httpx.MockTransport(handler))


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


def sse(_: httpx.Request) -> httpx.Response:
    text = (
        'event: accepted\ndata: {"id": "q"}\n\nid: 2:15\nevent: token\ndata: {"text": "At 80 bar."}\n\n'
        ': heartbeat\n\nevent: done\ndata: {"latency_ms": 9.5}\n\n'
    )
    return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})


def test_a_stream_yields_the_events_in_order_with_their_places_in_the_log() -> None:
    events = list(client(sse).query_stream("x"))

    assert [(each.event, each.id) for each in events] == [("accepted", None), ("token", "2:15"), ("done", "2:15")]
    assert events[1].data == {"text": "At 80 bar."}


def test_a_refused_stream_raises_before_the_first_event() -> None:
    with pytest.raises(Unauthorized, match="unknown key"):
        list(client(lambda _: problem(401, "unknown key")).query_stream("x"))


async def test_the_asynchronous_client_streams_and_refuses_alike() -> None:
    async with AsyncClient("http://gateway", "key", transport=httpx.MockTransport(sse)) as found:
        assert [each.event async for each in found.query_stream("x")] == ["accepted", "token", "done"]

    refusing = httpx.MockTransport(lambda _: problem(404, "no such document"))
    async with AsyncClient("http://gateway", "key", transport=refusing) as found:
        with pytest.raises(NotFound, match="no such document"):
            await found.document("a")
