"""A seeded load over HTTP: documents are submitted, changed, deleted and re-added while questions are asked.

Each writer owns its documents, so the order of operations on one document is known; every paragraph holds a marker of
its own.
"""

import asyncio
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import quote

import httpx
from httpx_sse import aconnect_sse

from tests.faults.history import History

THINGS = ("pump", "valve", "turbine", "sluice", "gauge", "weir", "intake", "penstock", "spillway", "governor")
PLACES = (
    "north dam",
    "south dam",
    "upper basin",
    "lower basin",
    "east channel",
    "west channel",
    "old mill",
    "new mill",
)
COLLECTION = "faults"


@dataclass(kw_only=True)
class Load:
    """One run's load.

    Attributes:
        url: of the gateway.
        key: API key of the tenant.
        history: takes everything that happens.
        seed: same seed, same operations in the same order per writer.
        n_documents: documents in all, shared out among the writers.
        n_writers, n_askers: tasks at once.
        wait_s: how long a reader waits for one document to become searchable before going on without.
    """

    url: str
    key: str
    history: History
    seed: int
    n_documents: int = 40
    n_writers: int = 4
    n_askers: int = 2
    wait_s: float = 60.0
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _operations: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _markers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _current: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    _ever: dict[str, list[str]] = field(default_factory=dict)
    _submissions: dict[str, tuple[int, str]] = field(default_factory=dict)

    async def run(self) -> None:
        """Work until `stop` is set; every task ends its step first."""
        async with self.client() as client, asyncio.TaskGroup() as tasks:
            for writer in range(self.n_writers):
                tasks.create_task(self._write(client, writer))
            for asker in range(self.n_askers):
                tasks.create_task(self._ask(client, asker))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """A connection with the tenant's key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(base_url=self.url, headers=headers, timeout=90) as client:
            yield client

    async def _write(self, client: httpx.AsyncClient, writer: int) -> None:
        rng = random.Random(f"{self.seed}/writer/{writer}")
        mine = [f"w{writer}/d{n}" for n in range(self.n_documents // self.n_writers)]
        while not self.stop.is_set():
            document = rng.choice(mine)
            if self._current.get(document) and rng.random() < 0.15:
                await self.delete(client, document)
            else:
                await self.submit(client, document, rng)
            if rng.random() < 0.5:
                await self.await_visible(client, document)
            await asyncio.sleep(rng.uniform(0, 0.2))

    async def submit(
        self, client: httpx.AsyncClient, document: str, rng: random.Random, n_new: int | None = None
    ) -> None:
        """Send a new version: some paragraphs of the one before, some new ones."""
        kept = [pair for pair in self._current.get(document, []) if rng.random() < 0.6]
        fresh = [self._paragraph(rng) for _ in range(n_new or rng.randint(1, 6))]
        paragraphs = kept + fresh
        rng.shuffle(paragraphs)
        self._current[document] = paragraphs
        self._ever.setdefault(document, []).extend(marker for marker, _ in fresh)
        op = next(self._operations)
        self.history.add("submit", op=op, document=document, markers=[marker for marker, _ in paragraphs])
        body = {
            "documents": [
                {"id": document, "collection": COLLECTION, "text": "\n\n".join(text for _, text in paragraphs)},
            ]
        }
        await self._send(client, op, document, "POST", "/v1/ingest", body)

    async def delete(self, client: httpx.AsyncClient, document: str) -> None:
        """Delete a document."""
        self._current[document] = []
        op = next(self._operations)
        self.history.add("delete", op=op, document=document)
        await self._send(client, op, document, "DELETE", f"/v1/documents/{quote(document, safe='')}", None)

    async def _send(
        self, client: httpx.AsyncClient, op: int, document: str, method: str, path: str, body: object | None
    ) -> None:
        self._submissions.pop(document, None)
        try:
            response = await client.request(method, path, json=body)
        except httpx.HTTPError as error:
            self.history.add("unacknowledged", op=op, why=repr(error))
            return
        if response.status_code == 202:
            self.history.add("acknowledged", op=op)
            answer = response.json()
            self._submissions[document] = (op, (answer["documents"][0] if body else answer)["submission"])
        else:
            self.history.add("unacknowledged", op=op, why=f"{response.status_code} {response.text[:200]}")

    async def settle(self, within_s: float) -> None:
        """After the load: wait until every document has reached what was asked of it last."""
        self.wait_s, self.stop = within_s, asyncio.Event()
        async with self.client() as client, asyncio.TaskGroup() as tasks:
            for document in self._submissions:
                tasks.create_task(self.await_visible(client, document))

    async def await_visible(self, client: httpx.AsyncClient, document: str) -> None:
        """Poll until a reader is told that the last operation is done, and note when."""
        if document not in self._submissions:
            return
        op, _ = self._submissions[document]
        status = await self.await_status(client, document, "indexed", "deleted", "failed")
        if status in {"indexed", "deleted"}:
            self.history.add("visible", op=op, document=document, status=status)
        elif status == "failed":
            self.history.add("failed", op=op, document=document)

    async def await_status(self, client: httpx.AsyncClient, document: str, *statuses: str) -> str | None:
        """Poll until the last operation on a document has one of these statuses; None when that takes too long."""
        end = time.monotonic() + self.wait_s
        while time.monotonic() < end and not self.stop.is_set():
            if (status := await self.status(client, document)) in statuses:
                return status
            await asyncio.sleep(0.1)
        return None

    async def status(self, client: httpx.AsyncClient, document: str) -> str:
        """What a reader is told of the last operation on a document."""
        wanted = {"id": document, "submission": self._submissions[document][1]}
        response = await client.post("/v1/documents/lookup", json={"documents": [wanted]})
        return str(response.json()["documents"][0]["status"]) if response.status_code == 200 else "?"

    def _paragraph(self, rng: random.Random) -> tuple[str, str]:
        """Return a marker and a paragraph of two sentences that holds it."""
        marker = f"mk{next(self._markers)}x"
        thing, place = rng.choice(THINGS), rng.choice(PLACES)
        text = (
            f"The {thing} {marker} of the {place} turns at {rng.randint(100, 999)} rpm when its gate is open. "
            f"It was inspected in {rng.randint(1950, 2020)} and carries {rng.randint(2, 90)} tonnes of water."
        )
        return marker, text

    async def _ask(self, client: httpx.AsyncClient, asker: int) -> None:
        rng = random.Random(f"{self.seed}/asker/{asker}")
        while not self.stop.is_set():
            text = f"How fast does the {rng.choice(THINGS)} of the {rng.choice(PLACES)} turn?"
            try:
                await self._one_question(client, text)
            except httpx.HTTPError as error:
                self.history.add("stream_broken", why=repr(error))
            await asyncio.sleep(rng.uniform(0, 0.3))

    async def _one_question(self, client: httpx.AsyncClient, text: str) -> None:
        asked_at, query = time.monotonic(), ""
        accept = {"Accept": "text/event-stream"}
        async with aconnect_sse(client, "POST", "/v1/query", json={"query": text}, headers=accept) as stream:
            if stream.response.status_code != 200:
                await stream.response.aread()
                self.history.add("rejected", status=stream.response.status_code, body=stream.response.text[:200])
                return
            async for message in stream.aiter_sse():
                if not message.data:
                    # a heartbeat, which httpx-sse takes for an event
                    continue
                data = json.loads(message.data)
                if message.event == "accepted":
                    query = data["id"]
                    self.history.add("ask", query=query, text=text)
                kept = {} if message.event == "sources" else data
                self.history.add("event", query=query, event=message.event, data=kept)
                if message.event == "sources":
                    for source in data["sources"]:
                        self.history.add("shown", asked_at=asked_at, text=source["text"])

    async def observe(self) -> None:
        """After quiet: note what searches for some markers of each document find, old versions included."""
        async with self.client() as client:
            for document, markers in sorted(self._ever.items()):
                current = [marker for marker, _ in self._current[document]]
                sought = [*current[:10], *[marker for marker in markers if marker not in current][-3:]]
                self.history.add("sought", document=document, markers=sought)
                for marker in sought:
                    body = {"query": marker, "top_k": 5, "rankers": ["lexical"]}
                    response = await client.post("/v1/search", json=body)
                    response.raise_for_status()
                    for hit in response.json()["hits"]:
                        if marker in hit["text"].split():
                            self.history.add("found", document=hit["document_id"], marker=marker)
