"""A gateway that keeps everything in memory, behind a real port, for tests of what speaks to it over HTTP."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

KEY = "let-me-in"


@dataclass
class FakeGateway:
    """State of the fake, and what it is told to do.

    Attributes:
        busy: how many ingest requests are answered 503 first.
        failing: document id -> (reason, message) that its processing ends with.
        refused: ids whose ingest is answered 422.
        stuck: ids that stay `submitted`.
        stream: what a streamed question is answered with, as (event, data); its place in the log is `0:<n>`.
        cuts: after how many events each of the next streams breaks off; those after them are whole.
        verification: what becomes of one, look after look; the last stays.
        waiting_switch: what a cancelled switch becomes; None: none waits.
        gates: what becomes of a gate, look after look; the last stays. `gated` are the requests for one.
        hold_after: how many events of a stream are sent before a cancel; None: all.
    """

    url: str = ""
    busy: int = 0
    failing: dict[str, tuple[str, str]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    stuck: set[str] = field(default_factory=set)
    stream: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    documents: dict[str, dict[str, Any]] = field(default_factory=dict)
    batches: list[list[str]] = field(default_factory=list)
    patches: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    hold_after: int | None = None
    resumed_from: list[str | None] = field(default_factory=list)
    asked: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    feedback: list[dict[str, Any]] = field(default_factory=list)
    verification: list[dict[str, Any]] = field(default_factory=list)
    repairs: list[bool] = field(default_factory=list)
    gates: list[dict[str, Any]] = field(default_factory=list)
    gated: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    waiting_switch: dict[str, Any] | None = None

    def ingest(self, documents: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        bad = [each["id"] for each in documents if each["id"] in self.refused]
        if bad:
            return 422, {"title": "Invalid", "detail": f"document {bad[0]!r} is not acceptable"}
        self.batches.append([each["id"] for each in documents])
        for each in documents:
            self.documents[each["id"]] = each
        receipts = [{"id": each["id"], "url": "/v1/documents/x", "submission": "0:1"} for each in documents]
        return 202, {"documents": receipts}

    def describe(self, document: str) -> dict[str, Any]:
        if document not in self.documents:
            return {"id": document, "status": "unknown"}
        if document in self.stuck:
            return {"id": document, "status": "submitted"}
        found: dict[str, Any] = {"id": document, "status": "indexed", "latest_version": 1, "failure": None}
        found["metadata"] = self.documents[document].get("metadata", {})
        found["acl"] = self.documents[document].get("acl")
        if document in self.failing:
            reason, message = self.failing[document]
            found |= {"status": "failed", "failure": {"stage": "chunk", "reason": reason, "message": message}}
        return found


def _form(kind: str, raw: bytes) -> dict[str, Any]:
    """Read an upload as the request that says the same in JSON, with the files' bytes."""
    form = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + raw, policy=policy.HTTP)
    files, own = [], []
    for part in form.iter_parts():
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        if part.get_filename() is None:
            own = json.loads(content)
        else:
            files.append({"filename": part.get_filename(), "content": content})
    return {"documents": [file | each for file, each in zip(files, own, strict=True)]}


@contextmanager
def running(fake: FakeGateway) -> Iterator[FakeGateway]:
    """Serve the fake on a free port of this machine until the block ends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fake))
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(fake: FakeGateway) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def _answer(self, status: int, body: Any, **headers: str) -> None:
            raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.send_response(status)
            kind = "application/problem+json" if status >= 400 else "application/json"
            sent = {"Content-Type": kind, "Content-Length": str(len(raw))}
            for name, value in (sent | {name.replace("_", "-"): value for name, value in headers.items()}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(raw)

        def _body(self) -> dict[str, Any]:
            raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = self.headers.get("Content-Type") or ""
            return _form(kind, raw) if kind.startswith("multipart/") else dict(json.loads(raw)) if raw else {}

        def _route(self, method: str) -> None:
            body = self._body()
            if self.headers.get("Authorization") != f"Bearer {KEY}":
                self._answer(
                    401, {"title": "Unauthorized", "detail": "the API key is not known; check HEADRACE_API_KEY"}
                )
                return
            path = urlsplit(self.path)
            document = unquote(path.path.removeprefix("/v1/documents/").removesuffix("/content"))
            submits = method == "POST" and path.path in ("/v1/ingest", "/v1/documents")
            if submits and fake.busy > 0:
                fake.busy -= 1
                self._answer(503, {"title": "Busy", "detail": "Kafka is away"}, Retry_After="0")
            elif submits:
                self._answer(*fake.ingest(body["documents"]))
            elif path.path == "/v1/documents/lookup":
                self._answer(200, {"documents": [fake.describe(each["id"]) for each in body["documents"]]})
            elif path.path.startswith("/v1/verifications"):
                if method == "POST":
                    fake.repairs.append(body["repair"])
                looks = fake.verification
                self._answer(202 if method == "POST" else 200, looks.pop(0) if len(looks) > 1 else looks[0])
            elif path.path.startswith("/v1/generations/") and path.path.endswith("/report"):
                self._answer(200, "<!DOCTYPE html>")
            elif path.path.startswith("/v1/generations/"):
                if method != "GET":
                    fake.gated.append((method, body))
                gates = fake.gates
                self._answer(202 if method == "POST" else 200, gates.pop(0) if len(gates) > 1 else gates[0])
            elif path.path == "/v1/switches" and method == "DELETE":
                cancelled, fake.waiting_switch = fake.waiting_switch, None
                if cancelled is None:
                    self._answer(409, {"title": "Conflict", "detail": "no switch waits"})
                else:
                    self._answer(200, [cancelled])
            elif path.path == "/v1/documents":
                self._page({name: values[0] for name, values in parse_qs(path.query).items()})
            elif path.path == "/v1/query" and body["stream"]:
                fake.questions.append(body)
                fake.asked.set()
                self._stream(0)
            elif path.path.startswith("/v1/queries/"):
                self._question(method, *path.path.split("/")[3:], body=body)
            elif path.path == "/v1/query":
                fake.questions.append(body)
                answer = {"id": "q", "answer": "At 80 bar.", "citations": [], "usage": {}, "latency_ms": 5.0}
                self._answer(200, answer)
            elif path.path == "/v1/search":
                fake.questions.append(body)
                hit = {"document_id": "a.md", "chunk_id": "c", "text": "80 bar", "score": 0.5, "scores": {"dense": 0.5}}
                self._answer(200, {"hits": [hit], "latency_ms": 3.0})
            elif document not in fake.documents:
                self._answer(404, {"title": "Not found", "detail": f"there is no document {document!r}"})
            elif path.path.endswith("/content"):
                self._answer(200, fake.documents[document]["text"])
            elif method == "PATCH":
                fake.patches.append((document, body))
                self._answer(202, {"id": document, "url": "/v1/documents/x", "submission": "0:3"})
            elif method == "DELETE":
                del fake.documents[document]
                self._answer(202, {"id": document, "url": "/v1/documents/x", "submission": "0:2"})
            else:
                self._answer(200, fake.describe(document))

        def _question(self, method: str, query: str, *under: str, body: dict[str, Any]) -> None:
            if query != "q":
                self._answer(404, {"title": "Not found", "detail": f"there is no question {query!r}"})
            elif under == ("events",):
                place = self.headers.get("Last-Event-ID")
                fake.resumed_from.append(place)
                self._stream(0 if place is None else int(place.removeprefix("0:")) + 1)
            elif under == ("feedback",):
                fake.feedback.append(body)
                self._answer(202, {"id": query})
            elif method == "DELETE":
                fake.cancelled.set()
                outcome = fake.stream[-1][0] if fake.hold_after is None else "cancelled"
                self._answer(200, {"id": query, "state": "finished", "outcome": outcome})

        def _stream(self, first: int) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            cut = fake.cuts.pop(0) if fake.cuts else len(fake.stream)
            for place, (name, data) in enumerate(fake.stream[:cut]):
                if place == fake.hold_after:
                    fake.cancelled.wait(10)
                    return
                if place >= first:
                    self.wfile.write(f"id: 0:{place}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode())

        def _page(self, params: dict[str, str]) -> None:
            start, limit = int(params.get("cursor", 0)), int(params["limit"])
            ids = sorted(
                each
                for each, document in fake.documents.items()
                if params.get("collection") in (None, document.get("collection"))
            )
            cursor = str(start + limit) if start + limit < len(ids) else None
            page = [fake.describe(each) for each in ids[start : start + limit]]
            self._answer(200, {"documents": page, "next_cursor": cursor})

        def do_GET(self) -> None:
            self._route("GET")

        def do_PATCH(self) -> None:
            self._route("PATCH")

        def do_POST(self) -> None:
            self._route("POST")

        def do_DELETE(self) -> None:
            self._route("DELETE")

    return Handler
