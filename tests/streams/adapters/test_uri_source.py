"""What may be fetched, and what is said of the rest. The far server is httpx's own double."""

from collections.abc import AsyncIterator, Callable, Sequence

import httpx
import pytest

from streams.adapters.uri_source import HttpsUriSource
from streams.errors import Transient, Unprocessable
from streams.intake.uri_source import Fetched

PUBLIC = "93.184.215.14"
DOCS = "https://docs.example/guide.md?lang=en"


def source(
    answer: Callable[[httpx.Request], httpx.Response], *, addresses: Sequence[str] = (PUBLIC,), max_bytes: int = 100
) -> HttpsUriSource:
    async def resolve(host: str) -> Sequence[str]:
        assert host == "docs.example"
        return addresses

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer), trust_env=False)
    return HttpsUriSource(client=client, hosts=frozenset({"docs.example"}), max_bytes=max_bytes, resolve=resolve)


async def body(content: bytes) -> AsyncIterator[bytes]:
    yield content


def unreachable(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"{request.url} must not be asked")


async def refused(uri: str, *, addresses: Sequence[str] = (PUBLIC,)) -> str:
    with pytest.raises(Unprocessable) as caught:
        await source(unreachable, addresses=addresses).fetch(uri)
    return caught.value.reason


async def test_the_checked_address_is_asked_in_the_name_of_the_host() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(
            200, headers={"content-type": "text/markdown; charset=utf-8"}, content=body("# Grüße".encode())
        )

    fetched = await source(answer).fetch(DOCS)

    assert fetched == Fetched(text="# Grüße", content_type="text/markdown")
    [request] = asked
    assert str(request.url) == f"https://{PUBLIC}/guide.md?lang=en"
    assert request.headers["host"] == "docs.example"
    assert request.extensions["sni_hostname"] == "docs.example"


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "http://docs.example/",
        "https://other.example/",
        "https://docs.example.evil.example/",
        "https://docs.example:8443/",
        "https://user:secret@docs.example/",
        "https://[::1/",
        "docs.example/guide.md",
        "",
    ],
)
async def test_only_https_from_named_hosts_is_fetched(uri: str) -> None:
    assert await refused(uri) == "uri_refused"


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.7",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "fd00::1",
        "fe80::1%eth0",
        "::ffff:127.0.0.1",
        "224.0.0.1",
    ],
)
async def test_a_host_that_resolves_into_a_private_range_is_refused(address: str) -> None:
    assert await refused(DOCS, addresses=[PUBLIC, address]) == "uri_refused"


async def test_a_redirect_is_not_followed() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": "https://127.0.0.1/"})

    with pytest.raises(Unprocessable, match="redirects are not followed"):
        await source(answer).fetch(DOCS)


async def test_a_body_over_the_bound_is_refused() -> None:
    with pytest.raises(Unprocessable) as caught:
        await source(lambda _: httpx.Response(200, content=body(b"x" * 101))).fetch(DOCS)

    assert caught.value.reason == "too_large"


async def test_a_missing_page_fails_and_a_busy_server_is_tried_again() -> None:
    with pytest.raises(Unprocessable, match="404"):
        await source(lambda _: httpx.Response(404)).fetch(DOCS)
    for status in (429, 503):
        with pytest.raises(Transient, match=str(status)):
            await source(lambda _, status=status: httpx.Response(status)).fetch(DOCS)  # type: ignore[misc]


async def test_a_server_that_is_away_is_tried_again() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(Transient, match=r"docs\.example is away"):
        await source(answer).fetch(DOCS)


async def test_a_charset_that_few_use_is_refused() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"content-type": "text/plain; charset=utf-7"}, content=body(b"+2AA-"))

    with pytest.raises(Unprocessable, match="charset 'utf-7'"):
        await source(answer).fetch(DOCS)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/pdf; x=y", "application/pdf"),
        ("application/octet-stream", "application/octet-stream"),
        (None, None),
    ],
)
async def test_what_is_no_text_comes_as_bytes(content_type: str | None, expected: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}

    fetched = await source(lambda _: httpx.Response(200, headers=headers, content=body(b"\xff\xfe"))).fetch(DOCS)

    assert fetched == Fetched(content=b"\xff\xfe", content_type=expected)


async def test_a_text_that_cannot_be_decoded_is_refused() -> None:
    headers = {"content-type": "text/plain"}
    with pytest.raises(Unprocessable) as caught:
        await source(lambda _: httpx.Response(200, headers=headers, content=body(b"\xff\xfe"))).fetch(DOCS)

    assert caught.value.reason == "not_utf8"
