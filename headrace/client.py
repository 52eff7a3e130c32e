"""The Python client: documents and questions to running gateways, over HTTP.

    with Client() as headrace:
        headrace.ingest([{"id": "notes/a.md", "text": "# A\\n\\nThe intake gate closes at 80 bar.", "title": "A"}])
        print(headrace.query("When does the intake gate close?")["answer"])

`Client` blocks; `AsyncClient` has the same methods as coroutines (streams as async iterators).

Gateways may come and go. A stream that breaks is read on from where it was, on the next gateway of those named.
Requests that create something carry an `Idempotency-Key`, so that one whose answer was lost is sent again without harm.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import quote

import httpx
import msgspec
from httpx_sse import ServerSentEvent, SSEError, aconnect_sse, connect_sse

from headrace.answers import AnswerEvent, Following, Heard, Json, joined
from headrace.failures import (
    Busy,
    HeadraceError,
    NotFound,
    Patience,
    Refused,
    Unauthorized,
    Unreachable,
    refusal,
    unreachable,
)
from headrace.target import Target, find_target

__all__ = [
    "AnswerEvent",
    "AsyncClient",
    "Busy",
    "Client",
    "HeadraceError",
    "Heard",
    "Json",
    "NotFound",
    "Refused",
    "Unauthorized",
    "Unreachable",
    "joined",
]

DEFAULT_TIMEOUT_S: Final = 60.0
PATIENCE_S: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    method: str
    path: str
    body: Json | None = None
    form: Mapping[str, str] | None = None
    files: Sequence[tuple[str, tuple[str, bytes, str]]] | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    waits: bool = False  # for a busy gateway


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


def _ingest_call(documents: Sequence[Mapping[str, Any]], key: str | None) -> _Call:
    body = {"documents": [dict(each) for each in documents]}
    return _Call(method="POST", path="/v1/ingest", body=body, headers=_keyed(key))


def _patch_call(document: str, changes: Mapping[str, Any], key: str | None) -> _Call:
    headers = {**_keyed(key), "Content-Type": "application/merge-patch+json"}
    return _Call(method="PATCH", path=_document_path(document), body=dict(changes), headers=headers)


def _upload_call(documents: Sequence[Mapping[str, Any]], key: str | None) -> _Call:
    files = [("file", (str(each["filename"]), each["content"], "application/octet-stream")) for each in documents]
    own = [{name: value for name, value in each.items() if name not in ("content", "filename")} for each in documents]
    form = {"documents": msgspec.json.encode(own).decode()}
    return _Call(method="POST", path="/v1/documents", form=form, files=files, headers=_keyed(key))


def _question_call(question: Json, *, stream: bool, key: str | None) -> _Call:
    body = {**question, "stream": stream}
    return _Call(method="POST", path="/v1/query", body=body, headers=_keyed(key), waits=True)


def _keyed(key: str | None) -> Json:
    return {"Idempotency-Key": key or uuid.uuid4().hex}


def _question_path(query: str) -> str:
    return f"/v1/queries/{quote(query, safe='')}"


def _events_call(query: str, place: str | None) -> _Call:
    headers = _given(**{"Last-Event-ID": place})
    return _Call(method="GET", path=_question_path(query) + "/events", headers=headers, waits=True)


def _cancel_call(query: str) -> _Call:
    return _Call(method="DELETE", path=_question_path(query), waits=True)


def _feedback_call(query: str, rating: str, comment: str | None, correction: str | None, user_id: str | None) -> _Call:
    body = _given(rating=rating, comment=comment, correction=correction, user_id=user_id)
    return _Call(method="POST", path=_question_path(query) + "/feedback", body=body, waits=True)


def _answer_event(event: ServerSentEvent, place: str | None) -> AnswerEvent:
    return AnswerEvent(event=event.event, data=msgspec.json.decode(event.data), id=event.id or place)


def _headers(target: Target) -> dict[str, str]:
    return {"Authorization": f"Bearer {target.api_key}"} if target.api_key else {}


class _Gateways:
    """Which gateway is asked, and how long; what both clients share."""

    def __init__(self, url: str | None, api_key: str | None, urls: Sequence[str], patience_s: float) -> None:
        self.target = find_target(",".join(urls) or url, api_key)
        self._patience_s = patience_s
        self._turn = 0

    @property
    def _url(self) -> str:
        return self.target.urls[self._turn % len(self.target.urls)]

    def _patience(self, *, waits: bool, owed: bool = False) -> Patience:
        return Patience(n_gateways=len(self.target.urls), limit_s=self._patience_s, waits=waits, owed=owed)

    def _pause_s(self, patience: Patience, failure: HeadraceError, turn: int) -> float:
        """Turn to the next gateway, and return how long to wait first.

        Args:
            patience: of the request.
            failure: what it met.
            turn: when it was sent; where another one that failed has turned on meanwhile, that is enough.

        Raises:
            HeadraceError: the failure, where nothing is to be tried again.
        """
        pause_s = patience.pause_s(failure) if isinstance(failure, Unreachable | Busy) else None
        if pause_s is None:
            raise failure
        if self._turn == turn:
            self._turn += 1
        return pause_s

    def _next_call(self, following: Following, question: _Call | None) -> _Call:
        if following.query is not None:
            return _events_call(following.query, following.place)
        assert question is not None
        return question

    def _is_due(self, event: AnswerEvent, following: Following, patience: Patience) -> bool:
        """Note an event, and say whether the reader is to get it. After the end a connection is only read empty."""
        due = not following.ended and following.admits(event)
        if event.event == "accepted":
            patience.owed = True
        elif event.event != "reset":
            patience.progress()
        return due

    def _broken(self, following: Following, failure: Refused) -> HeadraceError:
        """A gateway or proxy that fails while it sends what it has accepted is one that broke off."""
        if following.query is None or failure.status not in (500, 502, 504):
            return failure
        return unreachable(self._url, failure)


class Client(_Gateways):
    """A blocking client; a context manager.

    Args:
        url: the gateway's address, or several with commas between them; else `HEADRACE_URL`, else that of the embedded
            stack.
        api_key: else `HEADRACE_API_KEY`, else the first key of the embedded stack.
        urls: addresses of several gateways of one stack, instead of `url`. When one fails, the next one is asked.
        timeout_s: for one answer of the gateway, and for the silence within a stream, seconds.
        patience_s: how long something that was accepted, or may have been, is tried for after the first failure, and
            how long a question waits for a busy gateway, seconds. Where no gateway accepts a connection and nothing is
            owed, a method fails at once.
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
        urls: Sequence[str] = (),
        timeout_s: float = DEFAULT_TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, api_key, urls, patience_s)
        self._http = httpx.Client(headers=_headers(self.target), timeout=timeout_s, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def _send(self, call: _Call) -> httpx.Response:
        patience = self._patience(waits=call.waits)
        while True:
            turn = self._turn
            try:
                return self._try(call)
            except HeadraceError as failure:
                time.sleep(self._pause_s(patience, failure, turn))

    def _try(self, call: _Call) -> httpx.Response:
        url = self._url
        try:
            response = self._http.request(
                call.method,
                url + call.path,
                json=call.body,
                data=call.form,
                files=call.files,
                params=call.params,
                headers=call.headers,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(url, error) from error
        if response.is_error:
            raise refusal(response)
        return response

    def _follow(self, following: Following, question: _Call | None) -> Generator[AnswerEvent, None, None]:
        """Yield the events of a stream up to its end, from as many gateways and connections as that takes."""
        patience = self._patience(waits=True, owed=question is None)
        while True:
            turn = self._turn
            try:
                with closing(self._events(following, self._next_call(following, question))) as events:
                    for event in events:
                        if self._is_due(event, following, patience):
                            yield event
                return
            except HeadraceError as failure:
                if following.ended:
                    return
                time.sleep(self._pause_s(patience, failure, turn))

    def _events(self, following: Following, call: _Call) -> Generator[AnswerEvent, None, None]:
        """Yield what one connection brings; nothing, and 204, where the reader has heard the end.

        Raises:
            Unreachable: it broke off, or was closed.
        """
        url = self._url
        try:
            with connect_sse(
                self._http, call.method, url + call.path, json=call.body, headers=dict(call.headers)
            ) as sse:
                if sse.response.status_code == 204 and not following.begun:
                    return
                if sse.response.is_error:
                    sse.response.read()
                    raise self._broken(following, refusal(sse.response))
                for event in sse.iter_sse():
                    if event.data:
                        yield _answer_event(event, following.place)
        except SSEError as error:
            if following.begun:
                raise unreachable(url, error) from error
            raise HeadraceError(f"{url} sent no events: {error}. Is it a gateway?") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(url, error) from error
        raise unreachable(url, EOFError("the stream was closed before its end"))

    def _json(self, call: _Call) -> Json:
        return dict(msgspec.json.decode(self._send(call).content))

    def request(
        self, method: str, path: str, *, body: Json | None = None, params: Mapping[str, str] | None = None
    ) -> bytes:
        """Send a request for which there is no method, and return the body of the answer."""
        return self._send(_Call(method=method, path=path, body=body, params=params or {})).content

    def ingest(self, documents: Sequence[Mapping[str, Any]], *, idempotency_key: str | None = None) -> list[Json]:
        """Submit documents; returns once Kafka has them.

        Args:
            documents: each has `text` or `uri`, and may have id, title, content_type, metadata, collection, acl.
            idempotency_key: the same key with the same documents submits them once; else a fresh one.

        Returns:
            `{"id", "url", "submission"}` per document, in the same order; give `submission` to `lookup`.
        """
        return list(self._json(_ingest_call(documents, idempotency_key))["documents"])

    def upload(self, documents: Sequence[Mapping[str, Any]], *, idempotency_key: str | None = None) -> list[Json]:
        """Submit documents by their files, of any format; returns once Kafka has them.

        Args:
            documents: each has `content` (bytes) and `filename`, which is its id too if it has no `id`, and may have
                title, content_type (else told by the name, else by the bytes), metadata, collection, acl.
            idempotency_key: see `ingest`.

        Returns:
            As `ingest`.
        """
        return list(self._json(_upload_call(documents, idempotency_key))["documents"])

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

    def patch(self, document: str, changes: Mapping[str, Any], *, idempotency_key: str | None = None) -> Json:
        """Change what is said of a document, and leave its text; returns once Kafka has it.

        Args:
            document: its id; it must be accepted already.
            changes: a JSON merge patch (RFC 7396) of metadata, acl, title and collection: None takes away, what is left
                off stays.
            idempotency_key: the same key with the same changes submits them once; else a fresh one.

        Returns:
            `{"id", "url", "submission"}`; give `submission` to `lookup`.

        Raises:
            NotFound: there is no such document that the key may read.
        """
        return self._json(_patch_call(document, changes, idempotency_key))

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
        idempotency_key: str | None = None,
    ) -> Json:
        """Ask and wait for the whole answer: `{"id", "answer", "citations", "usage", "latency_ms", ...}`.

        The same `idempotency_key` with the same question asks it once; else it gets a fresh one.
        """
        question = _question(query, top_k, collection, filters, user_id)
        return self._json(_question_call(question, stream=False, key=idempotency_key))

    def query_stream(
        self,
        query: str,
        *,
        top_k: int | None = None,
        collection: str | None = None,
        filters: Mapping[str, Any] | None = None,
        user_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Generator[AnswerEvent, None, None]:
        """Ask and yield the events of the answer as they come, up to done, error or cancelled.

        A stream that breaks goes on by itself, on the next gateway if need be; what was told is not told again. `reset`
        voids the tokens before it: another worker has taken the question over, or the log no longer holds the rest.
        `joined` and `Heard` mind that.
        """
        question = _question(query, top_k, collection, filters, user_id)
        return self._follow(Following(), _question_call(question, stream=True, key=idempotency_key))

    def events(self, query: str, *, after: str | None = None) -> Generator[AnswerEvent, None, None]:
        """Yield the events of a question that was asked before, as `query_stream`, from any gateway.

        Args:
            query: id of the question.
            after: `id` of the last event heard; None: from the first one on.
        """
        return self._follow(Following(query=query, place=after), None)

    def question(self, query: str) -> Json:
        """Return a question as it is kept, with its state and answer; `NotFound` when there is none."""
        return self._json(_Call(method="GET", path=_question_path(query)))

    def cancel(self, query: str) -> Json:
        """Cancel a question and return it as it is then kept; one that has ended is left as it ended."""
        return self._json(_cancel_call(query))

    def feedback(
        self,
        query: str,
        rating: str,
        *,
        comment: str | None = None,
        correction: str | None = None,
        user_id: str | None = None,
    ) -> None:
        """Say what the answer to a question is worth; a later word replaces an earlier one.

        Args:
            query: id of the question.
            rating: up or down.
            comment: in words.
            correction: the right answer.
            user_id: who says so.
        """
        self._send(_feedback_call(query, rating, comment, correction, user_id))

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


class AsyncClient(_Gateways):
    """The same client for asyncio; an asynchronous context manager. Arguments and failures as for `Client`."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        urls: Sequence[str] = (),
        timeout_s: float = DEFAULT_TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, api_key, urls, patience_s)
        self._http = httpx.AsyncClient(headers=_headers(self.target), timeout=timeout_s, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _send(self, call: _Call) -> httpx.Response:
        patience = self._patience(waits=call.waits)
        while True:
            turn = self._turn
            try:
                return await self._try(call)
            except HeadraceError as failure:
                await asyncio.sleep(self._pause_s(patience, failure, turn))

    async def _try(self, call: _Call) -> httpx.Response:
        url = self._url
        try:
            response = await self._http.request(
                call.method,
                url + call.path,
                json=call.body,
                data=call.form,
                files=call.files,
                params=call.params,
                headers=call.headers,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(url, error) from error
        if response.is_error:
            raise refusal(response)
        return response

    async def _follow(self, following: Following, question: _Call | None) -> AsyncGenerator[AnswerEvent, None]:
        patience = self._patience(waits=True, owed=question is None)
        while True:
            turn = self._turn
            try:
                async with aclosing(self._events(following, self._next_call(following, question))) as events:
                    async for event in events:
                        if self._is_due(event, following, patience):
                            yield event
                return
            except HeadraceError as failure:
                if following.ended:
                    return
                await asyncio.sleep(self._pause_s(patience, failure, turn))

    async def _events(self, following: Following, call: _Call) -> AsyncGenerator[AnswerEvent, None]:
        url = self._url
        try:
            async with aconnect_sse(
                self._http, call.method, url + call.path, json=call.body, headers=dict(call.headers)
            ) as sse:
                if sse.response.status_code == 204 and not following.begun:
                    return
                if sse.response.is_error:
                    await sse.response.aread()
                    raise self._broken(following, refusal(sse.response))
                async for event in sse.aiter_sse():
                    if event.data:
                        yield _answer_event(event, following.place)
        except SSEError as error:
            if following.begun:
                raise unreachable(url, error) from error
            raise HeadraceError(f"{url} sent no events: {error}. Is it a gateway?") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise unreachable(url, error) from error
        raise unreachable(url, EOFError("the stream was closed before its end"))

    async def _json(self, call: _Call) -> Json:
        return dict(msgspec.json.decode((await self._send(call)).content))

    async def ingest(self, documents: Sequence[Mapping[str, Any]], *, idempotency_key: str | None = None) -> list[Json]:
        """Submit documents, as `Client.ingest`."""
        return list((await self._json(_ingest_call(documents, idempotency_key)))["documents"])

    async def upload(self, documents: Sequence[Mapping[str, Any]], *, idempotency_key: str | None = None) -> list[Json]:
        """Submit documents by their files, as `Client.upload`."""
        return list((await self._json(_upload_call(documents, idempotency_key)))["documents"])

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

    async def patch(self, document: str, changes: Mapping[str, Any], *, idempotency_key: str | None = None) -> Json:
        """Change what is said of a document, as `Client.patch`."""
        return await self._json(_patch_call(document, changes, idempotency_key))

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
        idempotency_key: str | None = None,
    ) -> Json:
        """Ask and wait for the whole answer, as `Client.query`."""
        question = _question(query, top_k, collection, filters, user_id)
        return await self._json(_question_call(question, stream=False, key=idempotency_key))

    def query_stream(
        self,
        query: str,
        *,
        top_k: int | None = None,
        collection: str | None = None,
        filters: Mapping[str, Any] | None = None,
        user_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> AsyncGenerator[AnswerEvent, None]:
        """Ask and yield the events of the answer as they come, as `Client.query_stream`."""
        question = _question(query, top_k, collection, filters, user_id)
        return self._follow(Following(), _question_call(question, stream=True, key=idempotency_key))

    def events(self, query: str, *, after: str | None = None) -> AsyncGenerator[AnswerEvent, None]:
        """Yield the events of a question that was asked before, as `Client.events`."""
        return self._follow(Following(query=query, place=after), None)

    async def question(self, query: str) -> Json:
        """Return a question as it is kept, as `Client.question`."""
        return await self._json(_Call(method="GET", path=_question_path(query)))

    async def cancel(self, query: str) -> Json:
        """Cancel a question, as `Client.cancel`."""
        return await self._json(_cancel_call(query))

    async def feedback(
        self,
        query: str,
        rating: str,
        *,
        comment: str | None = None,
        correction: str | None = None,
        user_id: str | None = None,
    ) -> None:
        """Say what the answer to a question is worth, as `Client.feedback`."""
        await self._send(_feedback_call(query, rating, comment, correction, user_id))

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
