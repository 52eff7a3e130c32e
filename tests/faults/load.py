"""A seeded load over HTTP: documents are submitted, changed, patched, deleted and re-added while questions are asked.

Each writer owns its documents, so the order of operations on one document is known; every paragraph holds a marker of
its own. Questions are asked of all gateways in turn; some connections are cut, some questions cancelled, some asked
again with the same idempotency key.
"""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from headrace.answers import AnswerEvent
from headrace.client import AsyncClient, HeadraceError, Refused
from tests.faults.cutting import Cutting
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
SHARE_DELETED = 0.15
PATIENCE_S = 90.0
"""How long a client goes on trying: longer than any gateway takes to come back."""


@dataclass(kw_only=True)
class Load:
    """One run's load.

    Attributes:
        urls: of the gateways.
        key: API key of the tenant.
        history: takes everything that happens.
        name: of this load, which its documents, markers and readers bear; small letters.
        acl: groups that may read its documents; None: the whole tenant.
        may: names of the loads whose texts the key may be shown.
        operations: numbers operations; loads that share a history share it.
        seed: same seed, same operations in the same order per writer.
        n_documents: documents in all, shared out among the writers.
        n_writers, n_askers: tasks at once.
        wait_s: how long a reader waits for one document to become searchable before going on without.
        rest_s: longest time that a writer rests between two operations; an asker rests half as long again.
        every_s: instead, the time from the beginning of a writer's or an asker's operation to that of its next one,
            where it does not take longer.
        share_patched: of the operations on a document that is there, those that only give it one more metadata field.
        share_awaited: of the operations, those after which a writer waits until they are searchable, 0 to 1.
        share_cut: of the connections of answer streams that are cut, 0 to 1.
        share_cancelled, share_repeated: of the questions.
    """

    urls: Sequence[str]
    key: str
    history: History
    seed: int
    name: str = ""
    acl: Sequence[str] | None = None
    may: Sequence[str] = ("",)
    operations: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    n_documents: int = 40
    n_writers: int = 4
    n_askers: int = 4
    wait_s: float = 60.0
    rest_s: float = 0.2
    every_s: float | None = None
    share_patched: float = 0.15
    share_awaited: float = 0.5
    share_cut: float = 0.3
    share_cancelled: float = 0.15
    share_repeated: float = 0.2
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    _markers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _current: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    _ever: dict[str, list[str]] = field(default_factory=dict)
    _submissions: dict[str, tuple[int, str]] = field(default_factory=dict)
    _accepted: dict[str, str] = field(default_factory=dict)
    _asked_at: dict[str, float] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """Work until `stop` is set; every task ends its step first."""
        async with self.client() as client, asyncio.TaskGroup() as tasks:
            for writer in range(self.n_writers):
                tasks.create_task(self._write(client, writer))
            for asker in range(self.n_askers):
                tasks.create_task(self._ask(asker))

    def client(self, first: int = 0, cutting: Cutting | None = None) -> AsyncClient:
        """A client that begins with the gateway of that number."""
        turn = first % len(self.urls)
        urls = [*self.urls[turn:], *self.urls[:turn]]
        return AsyncClient(urls=urls, api_key=self.key, patience_s=PATIENCE_S, transport=cutting)

    async def _write(self, client: AsyncClient, writer: int) -> None:
        rng = random.Random(f"{self.seed}/{self.name}/writer/{writer}")
        mine = [f"{self.name}w{writer}/d{n}" for n in range(self.n_documents // self.n_writers)]
        await self._stagger(rng)
        while not self.stop.is_set():
            began = time.monotonic()
            document = rng.choice(mine)
            is_there, fate = bool(self._current.get(document)), rng.random()
            if is_there and fate < SHARE_DELETED:
                await self.delete(client, document)
            elif is_there and document in self._submissions and fate < SHARE_DELETED + self.share_patched:
                await self.patch(client, document)
            else:
                await self.submit(client, document, rng)
            if rng.random() < self.share_awaited:
                await self.await_visible(client, document)
            await self._rest(rng, began, self.rest_s)

    async def _stagger(self, rng: random.Random) -> None:
        """Let those who work at a fixed rate not begin all at once."""
        if self.every_s is not None:
            await asyncio.sleep(self.every_s * rng.random())

    async def _rest(self, rng: random.Random, began: float, rest_s: float) -> None:
        """Wait until the next operation is due."""
        if self.every_s is None:
            await asyncio.sleep(rng.uniform(0, rest_s))
        else:
            await asyncio.sleep(began + self.every_s - time.monotonic())

    async def replace(self, client: AsyncClient, document: str, rng: random.Random, n_new: int) -> None:
        """Send a new version that shares no paragraph with the one before."""
        self._current.pop(document, None)
        await self.submit(client, document, rng, n_new)

    async def submit(
        self, client: AsyncClient, document: str, rng: random.Random, n_new: int | None = None, more: str = ""
    ) -> None:
        """Send a new version: some paragraphs of the one before, some new ones, and a last one that has no marker."""
        kept = [pair for pair in self._current.get(document, []) if rng.random() < 0.6]
        fresh = [self._paragraph(rng) for _ in range(n_new or rng.randint(1, 6))]
        paragraphs = kept + fresh
        rng.shuffle(paragraphs)
        self._current[document] = paragraphs
        self._ever.setdefault(document, []).extend(marker for marker, _ in fresh)
        op = next(self.operations)
        markers = [marker for marker, _ in paragraphs]
        self.history.add("submit", op=op, document=document, markers=markers, load=self.name)
        sent: dict[str, Any] = {"id": document, "collection": COLLECTION} | ({"acl": self.acl} if self.acl else {})
        text = "\n\n".join([*(text for _, text in paragraphs), *([more] if more else [])])
        self._submissions.pop(document, None)
        try:
            (receipt,) = await client.ingest([{**sent, "text": text}])
        except HeadraceError as error:
            self.history.add("unacknowledged", op=op, why=str(error))
        else:
            self._acknowledged(op, document, receipt)

    async def delete(self, client: AsyncClient, document: str) -> None:
        """Delete a document."""
        self._current[document] = []
        op = next(self.operations)
        self.history.add("delete", op=op, document=document)
        self._submissions.pop(document, None)
        try:
            receipt = await client.delete(document)
        except HeadraceError as error:
            self.history.add("unacknowledged", op=op, why=str(error))
        else:
            self._acknowledged(op, document, receipt)

    async def patch(self, client: AsyncClient, document: str) -> None:
        """Give a document one more metadata field, whose name nothing else has; the next version has none of them."""
        op = next(self.operations)
        name = f"p{op}"
        self.history.add("patch", op=op, document=document, field=name)
        self._submissions.pop(document, None)
        try:
            receipt = await client.patch(document, {"metadata": {name: op}})
        except HeadraceError as error:
            self.history.add("unacknowledged", op=op, why=str(error))
        else:
            self._acknowledged(op, document, receipt)

    def _acknowledged(self, op: int, document: str, receipt: dict[str, Any]) -> None:
        self.history.add("acknowledged", op=op)
        self._submissions[document] = (op, receipt["submission"])

    async def settle(self, within_s: float) -> None:
        """After the load: wait until every document has reached what was asked of it last."""
        self.wait_s, self.stop = within_s, asyncio.Event()
        async with self.client() as client, asyncio.TaskGroup() as tasks:
            for document in self._submissions:
                tasks.create_task(self.await_visible(client, document))

    async def await_visible(self, client: AsyncClient, document: str) -> None:
        """Poll until a reader is told that the last operation is done, and note when."""
        if document not in self._submissions:
            return
        op, _ = self._submissions[document]
        status = await self.await_status(client, document, "indexed", "deleted", "failed")
        if status in {"indexed", "deleted"}:
            self.history.add("visible", op=op, document=document, status=status)
        elif status == "failed":
            self.history.add("failed", op=op, document=document)

    async def await_status(self, client: AsyncClient, document: str, *statuses: str) -> str | None:
        """Poll until the last operation on a document has one of these statuses; None when that takes too long."""
        end = time.monotonic() + self.wait_s
        while time.monotonic() < end and not self.stop.is_set():
            if (status := await self.status(client, document)) in statuses:
                return status
            await asyncio.sleep(0.1)
        return None

    async def status(self, client: AsyncClient, document: str) -> str:
        """What a reader is told of the last operation on a document."""
        try:
            (found,) = await client.lookup([(document, self._submissions[document][1])])
        except HeadraceError:
            return "?"
        return str(found["status"])

    def _paragraph(self, rng: random.Random) -> tuple[str, str]:
        """Return a marker and a paragraph of two sentences that holds it."""
        marker = f"mk{self.name}{next(self._markers)}x"
        thing, place = rng.choice(THINGS), rng.choice(PLACES)
        text = (
            f"The {thing} {marker} of the {place} turns at {rng.randint(100, 999)} rpm when its gate is open. "
            f"It was inspected in {rng.randint(1950, 2020)} and carries {rng.randint(2, 90)} tonnes of water."
        )
        return marker, text

    async def _ask(self, asker: int) -> None:
        rng = random.Random(f"{self.seed}/{self.name}/asker/{asker}")
        cutting = Cutting(rng=random.Random(f"{self.seed}/{self.name}/cuts/{asker}"), share=self.share_cut)
        async with self.client(asker, cutting) as client, self.client(asker + 1) as other:
            await self._stagger(rng)
            for n in itertools.count():
                if self.stop.is_set():
                    return
                began = time.monotonic()
                text = f"How fast does the {rng.choice(THINGS)} of the {rng.choice(PLACES)} turn?"
                reader, fate = f"{self.name}{asker}/{n}", rng.random()
                key = f"{self.seed}/{reader}"
                reading = self.follow(reader, client.query_stream(text, idempotency_key=key))
                if fate < self.share_cancelled:
                    await self._cancelled(reading, other, reader, rng.uniform(0, 1))
                elif fate < self.share_cancelled + self.share_repeated:
                    again = self.follow(f"{reader}/again", other.query_stream(text, idempotency_key=key))
                    if rng.random() < 0.5:
                        await asyncio.gather(reading, again)
                    else:
                        await reading
                        await again
                else:
                    await reading
                await self._rest(rng, began, 1.5 * self.rest_s)

    async def _cancelled(
        self, reading: Coroutine[Any, Any, None], other: AsyncClient, reader: str, after_s: float
    ) -> None:
        """Read a stream, and cancel its question at another gateway after a while."""
        following = asyncio.create_task(reading)
        await asyncio.wait([following], timeout=after_s)
        await self.cancel(other, reader)
        await following

    async def cancel(self, client: AsyncClient, reader: str) -> None:
        """Cancel the question of a reader, if it was accepted."""
        if (query := self._accepted.get(reader)) is not None:
            try:
                self.history.add("cancel", query=query, answer=await client.cancel(query))
            except HeadraceError as error:
                self.history.add("cancel_failed", query=query, why=str(error))

    async def follow(self, reader: str, events: AsyncGenerator[AnswerEvent, None]) -> None:
        """Write down what one reader of a question's stream hears, up to its end."""
        asked_at, query = time.monotonic(), ""
        try:
            async for event in events:
                if event.event == "accepted":
                    query = self._accepted[reader] = event.data["id"]
                    # who asks again is told what was found for the first one
                    asked_at = self._asked_at.setdefault(query, asked_at)
                    self.history.add("ask", query=query, reader=reader, asked_at=asked_at)
                kept = {} if event.event == "sources" else event.data
                self.history.add("event", query=query, reader=reader, event=event.event, place=event.id, data=kept)
                if event.event == "sources":
                    for source in event.data["sources"]:
                        self._shown(asked_at, source["text"])
        except HeadraceError as error:
            status = error.status if isinstance(error, Refused) else None
            self.history.add("gave_up", query=query, reader=reader, status=status, why=str(error))

    def _shown(self, asked_at: float, text: str) -> None:
        self.history.add("shown", asked_at=asked_at, text=text, may=list(self.may))

    def markers(self) -> list[str]:
        """Return the markers of all paragraphs that are in its documents now."""
        return [marker for paragraphs in self._current.values() for marker, _ in paragraphs]

    async def observe(self) -> None:
        """After quiet: note what searches for some markers of each document find, old versions included."""
        async with self.client() as client:
            for document, markers in sorted(self._ever.items()):
                current = [marker for marker, _ in self._current[document]]
                sought = [*current[:10], *[marker for marker in markers if marker not in current][-3:]]
                self.history.add("sought", document=document, markers=sought)
                for marker in sought:
                    await self.seek(client, marker)

    async def seek(self, client: AsyncClient, marker: str) -> None:
        """Note what a search for a marker shows."""
        asked_at = time.monotonic()
        found = await client.search(marker, top_k=5, rankers=["lexical"])
        for hit in found["hits"]:
            self._shown(asked_at, hit["text"])
            if marker in hit["text"].split():
                self.history.add("found", document=hit["document_id"], marker=marker)
