"""The Python client: documents and questions to a running gateway, over HTTP.

    with Client() as headrace:
        headrace.ingest([{"id": "notes/a.md", "text": "# A\\n\\nThe intake gate closes at 80 bar.", "title": "A"}])
        print(headrace.query("When does the intake gate close?")["answer"])

`Client` blocks; `AsyncClient` has the same methods as coroutines (`query_stream` as an async iterator).
"""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote

import httpx
import msgspec
from httpx_sse import ServerSentEvent, SSEError, aconnect_sse, connect_sse

from headrace.target import Target, find_target

Json = dict[str, Any]
DEFAULT_TIMEOUT_S = 60.0


class HeadraceError(Exception):
    """Base of all failures of the client; the text is a sentence for people."""


class Unreachable(HeadraceError):
    """No gateway answers at the address, or it closed the connection half-way."""


class Refused(HeadraceError):
    """The gateway answered with an error (problem+json).

    Args:
        status: HTTP status.
        title: what kind of error it is, in a few words.
        detail: what was wrong, what was expected, what to do.
        errors: one entry per wrong field, where the gateway gives them.
    """

    def __init__(self, status: int, title: str, detail: str, errors: Sequence[Any] = ()) -> None:
        super().__init__(f"{title}: {detail}" if detail and detail != title else title)
        self.status = status
        self.title = title
        self.detail = detail
        self.errors = list(errors)


class Unauthorized(Refused):
    """The API key is missing, unknown, or may not do this (401, 403)."""


class NotFound(Refused):
    """There is no such document or question (404)."""


class Busy(Refused):
    """Try again later (429, 503); `retry_after_s` is what the gateway asks for, seconds."""

    retry_after_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerEvent:
    """One event of an answer stream: accepted, sources, token, answer, done, error or reset.

    `id` is the place in the log up to which the stream was read, for `Last-Event-ID`; None before the first.
    """

    event: str
    data: Json
    id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    method: str
    path: str
    body: Json | None = None
    params: Mapping[str, str] = field(default_factory=dict)


def _document_path(document: str) -> str:
    return f"/v1/documents/{quote(document, safe='')}"


def _given(**values: Any) -> Json:
    return {name: value for name, value in values.items() if value is not None}


def _list_call(collection: str | None, status: str | None, limit: int, cursor: str | None) -> _Call:
    params = _given(collection=collection, status=status, limit=str(limit), cursor=cursor)
    return _Call(method="GET", path="/v1/documents", params=params)


def _lookup_call(documents: Sequence[tuple[str, str | None]]) -> _Call:
    wanted = [_given(id=document, submission=submission) for document, submission in documents]
    return _Call(method="POST", path="/v1/documents/lookup", body={"documents": wanted})


def _question(
    query: str, top_k: int | None, collection: str | None, filters: Mapping[str, Any] | None, user_id: str | None
) -> Json:
    return _given(query=query, top_k=top_k, collection=collection, filters=filters, user_id=user_id)


def _search_call(
    query: str,
    top_k: int | None,
    collection: str | None,
    filters: Mapping[str, Any] | None,
    rankers: Sequence[str] | None,
) -> _Call:
    body = _question(query, top_k, collection, filters, None)
    if rankers is not None:
        body["rankers"] = list(rankers)
    return _Call(method="POST", path="/v1/search", body=body)


def _refusal(response: httpx.Response) -> Refused:
    try:
        problem = msgspec.json.decode(response.content)
    except msgspec.DecodeError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    title = str(problem.get("title") or f"HTTP {response.status_code} {response.reason_phrase}".strip())
    detail, errors = str(problem.get("detail") or ""), problem.get("errors") or ()
    status = response.status_code
    if status in (429, 503):
        busy = Busy(status, title, detail, errors)
        waiting = response.headers.get("retry-after", "")
        busy.retry_after_s = float(waiting) if waiting.replace(".", "", 1).isdigit() else 1.0
        return busy
    kind = Unauthorized if status in (401, 403) else NotFound if status == 404 else Refused
    return kind(status, title, detail, errors)


def _unreachable(target: Target, error: Exception) -> Unreachable:
    why = str(error) or type(error).__name__
    return Unreachable(f"no answer from the gateway at {target.url} ({why}). Is it running? Try: headrace status")


def _answer_event(event: ServerSentEvent) -> AnswerEvent:
    return AnswerEvent(event=event.event, data=msgspec.json.decode(event.data), id=event.id or None)


def _headers(target: Target) -> dict[str, str]:
    return {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}


class Client:
    """A blocking client; a context manager.

    Args:
        url: the gateway's address; else `HEADRACE_URL`, else that of the embedded stack.
        api_key: else `HEADRACE_API_KEY`, else the first key of the embedded stack.
        timeout_s: for one answer of the gateway, and for the silence within a stream, seconds.
        transport: how requests travel; for tests.

    Raises:
        Unreachable: (from every method) no gateway answers.
        Refused: (from every method) the gateway answered with an error; `Busy`, `Unauthorized`, `NotFound` among them.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.target = find_target(url, api_key)
        self._http = httpx.Client(
            base_url=self.target.url, headers=_headers(self.target), timeout=timeout_s, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _send(self, call: _Call) -> httpx.Response:
        try:
            response = self._http.request(call.method, call.path, json=call.body, params=call.params)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreachable(self.target, error) from error
        if response.is_error:
            raise _refusal(response)
        return response

    def _json(self, call: _Call) -> Json:
        return dict(msgspec.json.decode(self._send(call).content))

    def ingest(self, documents: Sequence[Mapping[str, Any]]) -> list[Json]:
        """Submit documents; returns once Kafka has them.

        Args:
            documents: each has `text` or `uri`, and may have id, title, content_type, metadata, collection, acl.

        Returns:
            `{"id", "url", "submission"}` per document, in the same order; give `submission` to `lookup`.
        """
        call = _Call(method="POST", path="/v1/ingest", body={"documents": [dict(each) for each in documents]})
        return list(self._json(call)["documents"])

    def lookup(self, documents: Sequence[tuple[str, str | None]]) -> list[Json]:
        """Tell where each document stands.

        Args:
            documents: at most 500 pairs of id and submission (None: whatever is the latest).

        Returns:
            One description per pair, in the same order; `status` is `submitted` until that submission was looked at,
            `unknown` where there is no such document.
        """
        return list(self._json(_lookup_call(documents))["documents"])

    def documents(
        self,
        *,
        collection: str | None = None,
        status: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Json:
        """Return one page, `{"documents": [...], "next_cursor"}`."""
        return self._json(_list_call(collection, status, limit, cursor))

    def document(self, document: str) -> Json:
        """Return one document's description; `NotFound` when there is none."""
        return self._json(_Call(method="GET", path=_document_path(document)))

    def content(self, document: str) -> str:
        """Return the parsed text of the live version, which the offsets of citations index."""
        return self._send(_Call(method="GET", path=_document_path(document) + "/content")).text

    def delete(self, document: str) -> Json:
        """Submit a delete; returns `{"id", "url", "submission"}` once Kafka has it."""
        return self._json(_Call(method="DELETE", path=_document_path(document)))

    def query(
        self,
        query: str,
        *,
        top_k: int | None = None,
        collection: str | None = None,
        filters: Mapping[str, Any] | None = None,
        user_id: str | None = None,
    ) -> Json:
        """Ask and wait for the whole answer: `{"id", "answer", "citations", "usage", "latency_ms", ...}`."""
        body = _question(query, top_k, collection, filters, user_id)
        return self._json(_Call(method="POST", path="/v1/query", body={**body, "stream": False}))

    def query_stream(
        self,
        query: str,
        *,
        top_k: int | None = None,
        collection: str | None = None,
        filters: Mapping[str, Any] | None = None,
        user_id: str | None = None,
    ) -> Iterator[AnswerEvent]:
        """Ask and yield the events of the answer as they come, up to `done` or `error`."""
        body = {**_question(query, top_k, collection, filters, user_id), "stream": True}
        try:
            with connect_sse(self._http, "POST", "/v1/query", json=body) as source:
                if source.response.is_error:
                    source.response.read()
                    raise _refusal(source.response)
                for event in source.iter_sse():
                    if event.data:
                        yield _answer_event(event)
        except (httpx.HTTPError, httpx.InvalidURL, SSEError) as error:
            raise _unreachable(self.target, error) from error

    def search(
        self,
        query: str,
        *,
        top_k: int | None = None,
        collection: str | None = None,
        filters: Mapping[str, Any] | None = None,
        rankers: Sequence[str] | None = None,
    ) -> Json:
        """Return the best passages, `{"hits": [...], "latency_ms"}`; rankers are dense, lexical, hybrid."""
        return self._json(_search_call(query, top_k, collection, filters, rankers))


class AsyncClient:
    """The same client for asyncio; an asynchronous context manager. Arguments and failures as for `Client`."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.target = find_target(url, api_key)
        self._http = httpx.AsyncClient(
            base_url=self.target.url, headers=_headers(self.target), timeout=timeout_s, transport=transport
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _send(self, call: _Call) -> httpx.Response:
        try:
            response = await self._http.request(call.method, call.path, json=call.body, params=call.params)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreachable(self.target, error) from error
        if response.is_error:
            raise _refusal(response)
        return response

    async def _json(self, call: _Call) -> Json:
        return dict(msgspec.json.decode((await self._send(call)).content))

    async def ingest(self, documents: Sequence[Mapping[str, Any]]) -> list[Json]:
        """Submit documents, as `Client.ingest`."""
        call = _Call(method="POST", path="/v1/ingest", body={"documents": [dict(each) for each in documents]})
        return list((await self._json(call))["documents"])

    async def lookup(self, documents: Sequence[tuple[str, str | None]]) -> list[Json]:
        """Tell where each document stands, as `Client.lookup`."""
        return list((await self._json(_lookup_call(documents)))["documents"])

    async def documents(
        self,
        *,
        collection: str | None = None,
        status: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Json:
        """Return one page, `{"documents": [...], "next_cursor"}`."""
        return await self._json(_list_call(collection, status, limit, cursor))

    async def document(self, document: str) -> Json:
        """Return one document's description; `NotFound` when there is none."""
        return await self._json(_Call(method="GET", path=_document_path(document)))

    async def content(self, document: str) -> str:
        """Return the parsed text of the live version."""
        return (await self._send(_Call(method="GET", path=_document_path(document) + "/content"))).text

    async def delete(self, document: str) -> Json:
        """Submit a delete, as `Client.delete`."""
        return await self._json(_Call(method="DELETE", path=_document_path(document)))

    async def query(
        self,
        query: str,
        *,
        top_k: int | None = None,
        collection: str | None = None,
        filters: Mapping[str, Any] | None = None,
        user_id: str | None = None,
    ) -> Json:
        """Ask and wait for the whole answer, as `Client.query`."""
        body = _question(query, top_k, collection, filters, user_id)
        return await self._json(_Call(method="POST", path="/v1/query", body={**body, "stream": False}))

    async def query_stream(
        self,
        query: str,
        *,
        top_k: int | None = None,
        collection: str | None = None,
        filters: Mapping[str, Any] | None = None,
        user_id: str | None = None,
    ) -> AsyncIterator[AnswerEvent]:
        """Ask and yield the events of the answer as they come, up to `done` or `error`."""
        body = {**_question(query, top_k, collection, filters, user_id), "stream": True}
        try:
            async with aconnect_sse(self._http, "POST", "/v1/query", json=body) as source:
                if source.response.is_error:
                    await source.response.aread()
                    raise _refusal(source.response)
                async for event in source.aiter_sse():
                    if event.data:
                        yield _answer_event(event)
        except (httpx.HTTPError, httpx.InvalidURL, SSEError) as error:
            raise _unreachable(self.target, error) from error

    async def search(
        self,
        query: str,
        *,
        top_k: int | None = None,
        collection: str | None = None,
        filters: Mapping[str, Any] | None = None,
        rankers: Sequence[str] | None = None,
    ) -> Json:
        """Return the best passages, as `Client.search`."""
        return await self._json(_search_call(query, top_k, collection, filters, rankers))
