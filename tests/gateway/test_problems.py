"""Every refusal is problem+json that says what was wrong."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest

from gateway.problems import unavailable
from tests.gateway.factories import Gateway


def problem_in(response: httpx.Response) -> dict[str, Any]:
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem = dict(response.json())
    assert problem["status"] == response.status_code
    assert problem["type"].startswith("urn:headrace:problem:")
    assert problem["title"] and problem["detail"]
    assert "Traceback" not in response.text
    return problem


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b"", ""),
        (b"{not json", ""),
        (b'{"documents": []}', "/documents"),
        (b'{"documents": [{}]}', "/documents/0"),
        (b'{"documents": [{"id": "a", "text": ""}]}', "/documents/0/text"),
        (b'{"documents": [{"id": "a", "text": " \\n"}]}', "/documents/0/text"),
        (b'{"documents": [{"id": "a", "text": "\\ud800"}]}', "/documents/0/text"),
        (b'{"documents": [{"id": "a", "text": "x", "uri": "https://example.org/"}]}', "/documents/0"),
        (b'{"documents": [{"id": "a", "uri": "file:///etc/passwd"}]}', "/documents/0/uri"),
        (b'{"documents": [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}]}', ""),
        (b'{"documents": [{"id": "' + b"a" * 600 + b'", "text": "x"}]}', "/documents/0/id"),
        (b'{"documents": [{"id": "a\\u0000b", "text": "x"}]}', "/documents/0/id"),
        (b'{"documents": [{"id": "a", "text": "x", "acls": ["g"]}]}', "/documents/0/acls"),
        (b'{"documents": [{"id": "a", "text": "x", "tenant": "globex"}]}', "/documents/0/tenant"),
        (b'{"documents": [{"id": "a", "text": "x", "metadata": {"n": NaN}}]}', "/documents/0/metadata"),
        (b'{"documents": [{"id": "a", "text": "x", "metadata": {"n": "\\u0000"}}]}', "/documents/0/metadata"),
        (
            b'{"documents": [{"id": "a", "text": "x", "metadata": {"n": 99999999999999999999}}]}',
            "/documents/0/metadata",
        ),
        (b'{"documents": [' + b",".join([b'{"text": "x"}'] * 1001) + b"]}", "/documents"),
    ],
)
async def test_a_bad_body_is_refused_at_its_place(gateway: Gateway, body: bytes, pointer: str) -> None:
    response = await gateway.acme.post("/v1/ingest", content=body, headers={"Content-Type": "application/json"})

    assert response.status_code == 422
    assert problem_in(response)["errors"][0]["pointer"] == pointer
    assert gateway.sender.sent == []


async def test_a_body_that_is_not_utf8_is_refused(gateway: Gateway) -> None:
    response = await gateway.acme.post(
        "/v1/ingest", content=b"\xff\xfe\x00", headers={"Content-Type": "application/json"}
    )

    assert response.status_code == 422
    assert "UTF-8" in problem_in(response)["detail"]


@pytest.mark.parametrize(
    "body",
    [
        {"query": ""},
        {"query": "   "},
        {"query": "x" * 8_001},
        {"query": "a\x00b"},
        {"query": "x", "top_k": 0},
        {"query": "x", "top_k": 51},
        {"query": "x", "top_k": True},
        {"query": "x", "filters": {"a": {"b": 1}}},
        {"query": "x", "filters": {"a": [[1]]}},
        {"query": "x", "filters": {"a": None}},
        {"question": "x"},
        {"query": "x", "tenant": "globex"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/query", "/v1/search"])
async def test_a_bad_question_is_refused(gateway: Gateway, path: str, body: dict[str, Any]) -> None:
    response = await gateway.acme.post(path, json=body)

    assert response.status_code == 422
    problem_in(response)
    assert gateway.sender.sent == []


async def test_a_bad_condition_is_refused_with_its_place(gateway: Gateway) -> None:
    response = await gateway.acme.post("/v1/search", json={"query": "x", "filters": {"year": {"gte": 2024}}})

    assert problem_in(response)["errors"][0]["pointer"] == "/filters"
    assert "/year/gte: there is no operator 'gte'; expected one of $eq" in problem_in(response)["detail"]


async def test_a_large_body_is_refused_while_it_arrives(gateway: Gateway) -> None:
    n_sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal n_sent
        for _ in range(1_000):
            n_sent += 1
            yield b" " * 16_384

    streamed = await gateway.acme.post("/v1/ingest", content=endless(), headers={"Content-Type": "application/json"})
    declared = await gateway.acme.post("/v1/ingest", content=b" " * 65_537)

    for response in (streamed, declared):
        assert response.status_code == 413
        assert "65536 bytes" in problem_in(response)["detail"]
    assert n_sent < 10


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (lambda g: g.anyone.get("/v1/documents"), 401),
        (lambda g: g.anyone.post("/v1/query", json={"query": "x"}), 401),
        (lambda g: g.anyone.get("/v1/documents", headers={"Authorization": "Bearer guess"}), 401),
        (lambda g: g.anyone.get("/v1/documents", headers={"Authorization": "Basic YTpi"}), 401),
        (lambda g: g.anyone.get("/nowhere"), 404),
        (lambda g: g.acme.get("/v1/documents/a/b/c"), 404),
        (lambda g: g.acme.get("/v1/documents/nothing"), 404),
        (lambda g: g.acme.get("/v1/queries/0199f0a4-7c1e-7cc0-8a55-0d8f9c3c7b11"), 404),
        (lambda g: g.acme.put("/v1/documents/a"), 405),
        (lambda g: g.acme.get("/v1/documents?limit=0"), 422),
        (lambda g: g.acme.get("/v1/documents?status=lost"), 422),
        (lambda g: g.acme.get("/v1/documents/%FF"), 422),
        (lambda g: g.acme.get("/v1/documents?cursor=forged"), 400),
        (lambda g: g.acme.get("/v1/documents?cursor=WyJhY21lIiwgImEiXQ=="), 400),
        (lambda g: g.acme.get("/v1/documents/a/content?start=-1"), 422),
    ],
)
async def test_every_refusal_is_a_problem(
    gateway: Gateway, ask: Callable[[Gateway], Awaitable[httpx.Response]], status: int
) -> None:
    response = await ask(gateway)

    assert response.status_code == status
    problem_in(response)


async def test_a_bug_is_a_problem_without_its_stack_trace(gateway: Gateway) -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret detail")

    object.__setattr__(gateway.documents, "find", broken)

    response = await gateway.acme.get("/v1/documents/a")

    assert response.status_code == 500
    problem_in(response)
    assert "secret detail" not in response.text


async def test_what_is_away_says_when_to_come_again(gateway: Gateway) -> None:
    async def away(*_: object) -> None:
        raise unavailable("Postgres", "connection refused")

    object.__setattr__(gateway.documents, "find", away)

    response = await gateway.acme.get("/v1/documents/a")

    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert "connection refused" in problem_in(response)["detail"]


async def test_nothing_is_asked_while_replies_cannot_be_read(gateway: Gateway) -> None:
    gateway.services.replies.log.alive = False

    response = await gateway.acme.post("/v1/query", json={"query": "x"})

    assert response.status_code == 503
    problem_in(response)
    assert gateway.questions.rows == {}
