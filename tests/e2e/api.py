"""Headrace's HTTP API as a tenant's program sees it, for tests over a whole stack."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx
from httpx_sse import connect_sse

Sse = tuple[str, dict[str, Any], str | None]
"""Name, data, and the place up to which the stream was read."""
SETTLED = {"indexed", "deleted", "failed"}


def until(look: Callable[[], Any], wanted: Callable[[Any], bool], what: str, *, seconds: float) -> Any:
    """Look until what is seen is as wanted, and return it."""
    end = time.monotonic() + seconds
    while not wanted(found := look()):
        assert time.monotonic() < end, f"{what}: {found}"
        time.sleep(0.2)
    return found


@dataclass(frozen=True, kw_only=True)
class Api:
    """One tenant's client; raises where the status code is not the expected one."""

    client: httpx.Client

    @classmethod
    def connect(cls, url: str, key: str) -> "Api":
        """Open a client for one API key."""
        headers = {"Authorization": f"Bearer {key}"}
        return cls(client=httpx.Client(base_url=url, headers=headers, timeout=60))

    def ingest(self, *documents: dict[str, Any]) -> list[dict[str, Any]]:
        """Submit documents and return the acknowledgements."""
        response = self.client.post("/v1/ingest", json={"documents": list(documents)})
        assert response.status_code == 202, response.text
        return list(response.json()["documents"])

    def delete(self, document: str) -> dict[str, Any]:
        """Ask for a deletion."""
        response = self.client.delete(f"/v1/documents/{quote(document, safe='')}")
        assert response.status_code == 202, response.text
        return dict(response.json())

    def settle(self, *acknowledged: dict[str, Any], seconds: float = 60) -> list[dict[str, Any]]:
        """Wait until each submission is indexed, deleted or failed; returns the documents in the same order."""
        wanted = [{"id": item["id"], "submission": item["submission"]} for item in acknowledged]
        return self._poll(wanted, SETTLED, seconds)

    def put(self, *documents: dict[str, Any]) -> list[dict[str, Any]]:
        """Submit and wait."""
        return self.settle(*self.ingest(*documents))

    def await_status(self, document: str, *statuses: str, seconds: float = 60) -> dict[str, Any]:
        """Wait until a document, however it was submitted, has one of these statuses."""
        return self._poll([{"id": document}], set(statuses), seconds)[0]

    def _poll(self, wanted: list[dict[str, str]], statuses: set[str], seconds: float) -> list[dict[str, Any]]:
        end = time.monotonic() + seconds
        while True:
            response = self.client.post("/v1/documents/lookup", json={"documents": wanted})
            assert response.status_code == 200, response.text
            found = list(response.json()["documents"])
            if all(item["status"] in statuses for item in found):
                return found
            assert time.monotonic() < end, f"not settled in {seconds} s: {found}"
            time.sleep(0.02)

    def document(self, document: str) -> httpx.Response:
        """GET the document."""
        return self.client.get(f"/v1/documents/{quote(document, safe='')}")

    def content(self, document: str) -> httpx.Response:
        """GET its parsed text."""
        return self.client.get(f"/v1/documents/{quote(document, safe='')}/content")

    def search(self, text: str, **body: Any) -> list[dict[str, Any]]:
        """Search and return the hits."""
        response = self.client.post("/v1/search", json={"query": text, "top_k": 10, **body})
        assert response.status_code == 200, response.text
        return list(response.json()["hits"])

    def find(self, text: str, document: str, *, gone: bool = False, seconds: float = 10, **body: Any) -> None:
        """Wait until a search gives the document (or, with `gone`, gives it no more)."""
        end = time.monotonic() + seconds
        while (document in {hit["document_id"] for hit in self.search(text, **body)}) is gone:
            assert time.monotonic() < end, f"{document} {'still' if gone else 'not'} found for {text!r}"
            time.sleep(0.05)

    def query(self, text: str, **body: Any) -> dict[str, Any]:
        """Ask and return the one JSON answer."""
        response = self.client.post("/v1/query", json={"query": text, **body})
        assert response.status_code == 200, response.text
        return dict(response.json())

    def follow(self, path: str, until: Callable[[Sse], bool], *, after: str | None = None) -> list[Sse]:
        """Read an event stream up to the first event of which `until` is true; a place is None before the first."""
        headers = {} if after is None else {"Last-Event-ID": after}
        found = []
        with connect_sse(self.client, "GET", path, headers=headers) as source:
            for event in source.iter_sse():
                if event.data:
                    found.append((event.event, json.loads(event.data), event.id or None))
                    if until(found[-1]):
                        return found
        raise AssertionError(f"{path} ended before that: {found}")

    def stream(self, text: str, **body: Any) -> list[tuple[str, dict[str, Any]]]:
        """Ask and return every SSE event with its data, in order."""
        headers = {"Accept": "text/event-stream"}
        with connect_sse(self.client, "POST", "/v1/query", json={"query": text, **body}, headers=headers) as source:
            # an event without data is a heartbeat, which httpx-sse takes for one
            return [(event.event, json.loads(event.data)) for event in source.iter_sse() if event.data]
