"""Fetches documents over https from hosts that the operator has named, and from nowhere else."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Final
from urllib.parse import SplitResult, urlsplit

import httpx

from schemas.formats import OCTETS, format_of_type
from streams.errors import Transient, Unprocessable
from streams.intake.uri_source import Fetched

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Gives the IP addresses of a host; raises OSError."""

CHARSETS: Final = ("utf-8", "us-ascii", "iso-8859-1", "windows-1252")
"""Python knows many more; some of them are slow, or make text that no one can store."""

BUSY: Final = frozenset({408, 425, 429})


async def resolve(host: str) -> Sequence[str]:
    """Ask the system for the addresses of a host."""
    found = await asyncio.get_running_loop().getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


@dataclass(frozen=True, kw_only=True)
class HttpsUriSource:
    """`UriSource` over https.

    The address is checked and then connected to, so a name that resolves differently a moment later gains nothing;
    redirects and proxies are not followed.

    Attributes:
        client: made with `trust_env=False, follow_redirects=False`; the caller closes it.
        hosts: names that may be fetched from, in lower case.
        max_bytes: largest body.
        timeout_s: longest time of a whole fetch.
        resolve: gives the addresses of a host.
    """

    client: httpx.AsyncClient
    hosts: frozenset[str]
    max_bytes: int
    timeout_s: float = 30.0
    resolve: Resolve = resolve

    async def fetch(self, uri: str) -> Fetched:
        """See `UriSource.fetch`."""
        parts = self._allowed(uri)
        host = parts.hostname or ""
        try:
            async with asyncio.timeout(self.timeout_s):
                address = await self._public_address(host)
                return await self._get(parts, host, address)
        except (httpx.TransportError, OSError, TimeoutError) as error:
            raise Transient(f"{host} is away or slow: {str(error) or type(error).__name__}") from error

    def _allowed(self, uri: str) -> SplitResult:
        try:
            parts = urlsplit(uri)
            port = parts.port
        except ValueError as error:
            raise Unprocessable("uri_refused", f"uri {uri[:200]!r} is malformed: {error}") from error
        if parts.scheme != "https" or parts.username is not None or port not in (None, 443):
            raise Unprocessable("uri_refused", f"uri {uri[:200]!r}: expected https://<host>/<path> and nothing else")
        if parts.hostname not in self.hosts:
            raise Unprocessable(
                "uri_refused",
                f"host {(parts.hostname or '')[:80]!r} may not be fetched from; the operator lists hosts in "
                "HEADRACE_URI_HOSTS, or send the text itself",
            )
        return parts

    async def _public_address(self, host: str) -> str:
        addresses = await self.resolve(host)
        if not addresses:
            raise Transient(f"{host} has no address")
        for address in addresses:
            ip = ipaddress.ip_address(address.partition("%")[0])
            inner = getattr(ip, "ipv4_mapped", None) or ip
            if not inner.is_global or inner.is_multicast:
                raise Unprocessable("uri_refused", f"{host} resolves to {address}, which is not a public address")
        return addresses[0]

    async def _get(self, parts: SplitResult, host: str, address: str) -> Fetched:
        literal = f"[{address}]" if ":" in address else address
        url = parts._replace(netloc=literal, fragment="").geturl()
        headers = {"Host": host, "Accept-Encoding": "identity", "Accept": "*/*"}
        # The certificate is checked against the name, though the connection goes to the address.
        try:
            request = self.client.build_request("GET", url, headers=headers, extensions={"sni_hostname": host})
        except httpx.InvalidURL as error:
            raise Unprocessable("uri_refused", f"uri of {host} is malformed: {error}") from error
        response = await self.client.send(request, stream=True, follow_redirects=False)
        try:
            _check_status(response, host)
            body = await self._body(response, host)
        finally:
            await response.aclose()
        return _fetched(body, response.headers.get("content-type"), host)

    async def _body(self, response: httpx.Response, host: str) -> bytes:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise Unprocessable("uri_refused", f"{host} sent a compressed body though identity was asked for")
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > self.max_bytes:
                raise Unprocessable("too_large", f"{host} sent more than {self.max_bytes} bytes: split the document")
        return bytes(body)


def _check_status(response: httpx.Response, host: str) -> None:
    status = response.status_code
    if status in BUSY or status >= 500:
        raise Transient(f"{host} answered {status}")
    if status != 200:
        advice = "; redirects are not followed, send the final uri" if 300 <= status < 400 else ""
        raise Unprocessable("uri_not_found", f"{host} answered {status}{advice}")


def _fetched(body: bytes, content_type: str | None, host: str) -> Fetched:
    format_ = format_of_type(content_type) if content_type is not None else None
    header = Message()
    header["content-type"] = content_type or OCTETS
    if format_ is None or not format_.is_text:
        return Fetched(content=body, content_type=header.get_content_type() if content_type else None)
    charset = header.get_content_charset("utf-8")
    if charset not in CHARSETS:
        raise Unprocessable("not_utf8", f"{host} sent charset {charset[:40]!r}; expected one of {', '.join(CHARSETS)}")
    try:
        text = body.decode(charset)
    except UnicodeDecodeError as error:
        raise Unprocessable("not_utf8", f"the body from {host} is not {charset!r} text: {error}") from error
    return Fetched(text=text, content_type=header.get_content_type())
