"""What each route answers while Kafka, Postgres or Valkey is away, as the runbook says it, in bounded time."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import httpx
import msgspec
import pytest

from backbone.kafka import Publisher
from backbone.objects import FolderBlobs
from backbone.postgres import open_pool
from backbone.settings import GatewaySettings
from gateway.app import create_app
from gateway.questions import PostgresQuestionRows
from schemas.topics import DEAD_LETTERS
from tests.gateway.factories import question
from tests.gateway.real import responder
from tests.gateway.serving import served
from tests.parts import Broker
from tests.proxy import Proxy, proxy

pytestmark = pytest.mark.integration

RUNBOOK: Final = Path(__file__).parents[2] / "docs/runbooks/part-away.md"
ANSWERED_S: Final = 15.0
"""Longest time until an answer begins: the gateway waits for 8 s at most, the rest is for a busy machine."""
READY_S: Final = 30.0
GENERATIONS: Final = {
    "running": "following",
    "resting": "paused",
    "unwanted": "following",
    "candidate": "following",
    "gated": "following",
    "former": "following",
}
"""Index generations beside the one that answers, and their states."""


@dataclass(frozen=True)
class Request:
    """A request to a route.

    Attributes:
        streams: its answer has no end, so only its beginning is read.
        in_turn: it stands in the way of others that are sent in turn, as one switch of another.
    """

    method: str
    path: str
    body: Any = None
    files: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str = "acme-key"
    streams: bool = False
    in_turn: bool = False


@dataclass(frozen=True, kw_only=True)
class Answered:
    """How a request was answered. `text` is the beginning of a stream, else all of it."""

    status: int
    headers: httpx.Headers
    text: str
    after_s: float


def requests(made: Mapping[str, str]) -> dict[str, Request]:
    """One request for each row of the runbook's table.

    Args:
        made: ids of what is there: see `Rig.make` and `Rig.renew`.
    """
    get, post, delete = partial(Request, "GET"), partial(Request, "POST"), partial(Request, "DELETE")
    documents = {"documents": [{"id": "heron", "text": "The heron stands at the weir."}]}
    file = {"file": ("stork.txt", b"The stork stands at the weir.")}
    asks, none = {"query": "When does it open?"}, {"reason": "none"}
    answered, letter = f"/v1/queries/{made['answered']}", f"/v1/dead-letters/{made['letter']}"
    operator = "operator-key"
    fresh = {"name": made["generation"], "chunker": "tokens", "embedder": "test"}
    return {
        "POST /v1/ingest": post("/v1/ingest", documents),
        "POST /v1/ingest with Idempotency-Key": post("/v1/ingest", documents, headers={"Idempotency-Key": made["key"]}),
        "POST /v1/documents": post("/v1/documents", files=file),
        "PATCH /v1/documents/{document}": Request("PATCH", "/v1/documents/live", {"title": "Heron"}),
        "DELETE /v1/documents/{document}": delete("/v1/documents/heron"),
        "GET /v1/documents": get("/v1/documents"),
        "POST /v1/documents/lookup": post("/v1/documents/lookup", {"documents": [{"id": "live"}]}),
        "GET /v1/documents/{document}": get("/v1/documents/live"),
        "GET /v1/documents/{document}/content": get("/v1/documents/live/content"),
        "POST /v1/documents/{document}/retry, given up": post("/v1/documents/failed/retry"),
        "POST /v1/documents/{document}/retry, on its way": post("/v1/documents/slow/retry"),
        "GET /v1/documents/{document}/events": get("/v1/documents/live/events", streams=True),
        "GET /v1/lifecycle/events": get("/v1/lifecycle/events", streams=True),
        "POST /v1/query": post("/v1/query", asks),
        "POST /v1/query, as a stream": post("/v1/query", asks | {"stream": True}),
        "POST /v1/search": post("/v1/search", asks),
        "GET /v1/queries/{id}": get(answered),
        "GET /v1/queries/{id}/events": get(f"{answered}/events", streams=True),
        "DELETE /v1/queries/{id}": delete(f"/v1/queries/{made['open']}"),
        "POST /v1/queries/{id}/feedback": post(f"{answered}/feedback", {"rating": "up"}),
        "GET /v1/dead-letters": get("/v1/dead-letters"),
        "GET /v1/dead-letters/{id}": get(letter, key=operator),
        "GET /v1/dead-letters/{id}/value": get(f"{letter}/value", key=operator),
        "POST /v1/dead-letters/redrive": post("/v1/dead-letters/redrive", none, key=operator),
        "POST /v1/dead-letters/discard": post("/v1/dead-letters/discard", none, key=operator),
        "POST /v1/dead-letters/{id}/redrive": post(f"{letter}/redrive", key=operator),
        "POST /v1/dead-letters/{id}/discard": post(f"/v1/dead-letters/{made['unwanted']}/discard", key=operator),
        "POST /v1/verifications": post("/v1/verifications", {}, key=operator),
        "GET /v1/verifications/{id}": get(f"/v1/verifications/{made['verified']}", key=operator),
        "GET /v1/coverage": get("/v1/coverage", key=operator),
        "GET /v1/generations": get("/v1/generations", key=operator),
        "POST /v1/generations": post("/v1/generations", fresh, key=operator),
        "GET /v1/generations/{name}": get("/v1/generations/g1", key=operator),
        "GET /v1/generations/{name}/events": get("/v1/generations/g1/events", key=operator, streams=True),
        "POST /v1/generations/{name}/pause": post("/v1/generations/running/pause", key=operator),
        "POST /v1/generations/{name}/resume": post("/v1/generations/resting/resume", key=operator),
        "POST /v1/generations/{name}/shadow": post("/v1/generations/running/shadow", {"share": 0}, key=operator),
        "DELETE /v1/generations/{name}": delete("/v1/generations/unwanted", key=operator),
        "POST /v1/generations/{name}/gate": post("/v1/generations/candidate/gate", {"golden": True}, key=operator),
        "GET /v1/generations/{name}/gate": get("/v1/generations/gated/gate", key=operator),
        "GET /v1/generations/{name}/gate/events": get("/v1/generations/gated/gate/events", key=operator, streams=True),
        "GET /v1/generations/{name}/gate/report": get("/v1/generations/gated/gate/report", key=operator),
        "DELETE /v1/generations/{name}/gate": delete("/v1/generations/gated/gate", key=operator),
        "POST /v1/generations/{name}/rebuild": post("/v1/generations/g1/rebuild", {"sink": "pgvector"}, key=operator),
        "GET /v1/rebuilds": get("/v1/rebuilds", key=operator),
        "GET /v1/rebuilds/{id}": get(f"/v1/rebuilds/{made['rebuilt']}", key=operator),
        "POST /v1/generations/{name}/switch": post(
            "/v1/generations/candidate/switch", {"force": True}, key=operator, in_turn=True
        ),
        "POST /v1/rollback": post("/v1/rollback", {}, key=operator, in_turn=True),
        "GET /v1/switches": get("/v1/switches", key=operator),
        "DELETE /v1/switches": delete("/v1/switches", key=operator, in_turn=True),
        "GET /health": get("/health"),
        "GET /ready": get("/ready"),
        "GET /metrics": get("/metrics"),
    }


@dataclass(kw_only=True)
class Rig:
    """A gateway that reaches each of its parts through a proxy, and what is stored behind it.

    Attributes:
        client: of the gateway.
        routes: method and path of each, as `GET /ready`.
        direct: settings that reach the parts without the proxies.
    """

    client: httpx.AsyncClient
    routes: set[str]
    direct: GatewaySettings
    pool: "asyncpg.Pool[Any]"
    proxies: Mapping[str, Proxy]
    made: dict[str, str] = field(default_factory=dict)

    async def make(self) -> None:
        """Store what the requests ask for."""
        answered = await self.answer(Request("POST", "/v1/query", {"query": "When?"}))
        self.made["answered"] = msgspec.json.decode(answered.text)["id"]
        verified = await self.answer(Request("POST", "/v1/verifications", {}, key="operator-key"))
        self.made["verified"] = msgspec.json.decode(verified.text)["id"]
        rebuilt = await self.answer(
            Request("POST", "/v1/generations/g1/rebuild", {"sink": "tantivy"}, key="operator-key")
        )
        self.made["rebuilt"] = msgspec.json.decode(rebuilt.text)["id"]
        for name in GENERATIONS:
            await self.pool.execute(
                "INSERT INTO generations (generation, chunker, embedder, dim) VALUES ($1, 'tokens', 'test', 4)", name
            )
        await self.pool.execute(
            "INSERT INTO switches (id, alias, generation, previous, kind, forced, asked_by, state, moved_at) "
            "VALUES (gen_random_uuid(), 'live', 'g1', 'former', 'switch', true, 'operations', 'done', now())"
        )
        text = await FolderBlobs(self.direct.objects_dir).put(b"The heron stands at the weir.")
        for name, status in (("live", "indexed"), ("failed", "failed"), ("slow", "accepted")):
            await self.pool.execute(
                "INSERT INTO documents (tenant, document, latest_version, status, stage, failure_reason, "
                "failure_message) VALUES ('acme', $1, 1, $2, 'chunk', 'bug', 'm')",
                name,
                status,
            )
        await self.pool.execute(
            "INSERT INTO live (generation, tenant, document, version, content_sha256) "
            "VALUES ('g1', 'acme', 'live', 1, $1)",
            text,
        )
        async with Publisher(self.direct) as publisher:
            for name, document in (("letter", "one"), ("unwanted", "two"), ("of failed", "failed")):
                place = await publisher.send(DEAD_LETTERS.named("chunk").name, key=b"acme/failed", value=b"hello")
                await self.pool.execute(
                    'INSERT INTO dead_letters (stage, partition, "offset", reason, message, attempts, failed_at, '
                    "tenant, document, key, n_bytes, source_topic, source_topic_id, source_partition, source_offset) "
                    "VALUES ('chunk', $1, $2, 'bug', 'm', 1, now(), 'acme', $3, 'k', 5, 't', 'i', 0, 0)",
                    place.partition,
                    place.offset,
                    document,
                )
                self.made[name] = f"chunk.{place.partition}.{place.offset}"

    async def renew(self) -> None:
        """Undo what the last requests did, so that they may come again."""
        await self.pool.execute("UPDATE dead_letters SET state = 'open'")
        now_ms = time.time_ns() // 1_000_000
        asked = question(asked_ms=now_ms, deadline_ms=now_ms + 300_000)
        rows = PostgresQuestionRows(pool=self.pool, alias="live")
        assert await rows.insert(asked, reply_offset=0) is not None
        self.made |= {"open": asked.query, "key": f"key-{asked.query}", "generation": f"n{now_ms}"}
        for name, state in GENERATIONS.items():
            await self.pool.execute("UPDATE generations SET state = $2 WHERE generation = $1", name, state)
        await self.pool.execute("DELETE FROM rebuilds WHERE sink = 'pgvector'")
        await self.pool.execute("DELETE FROM gates")
        await self.pool.execute(
            "INSERT INTO gates (id, candidate, base, tenant, margin, sets) "
            "VALUES (gen_random_uuid(), 'gated', 'g1', 'operations', 0.05, '{}')"
        )

    async def answer(self, request: Request) -> Answered:
        """Send one request."""
        headers = {"Authorization": f"Bearer {request.key}", **request.headers}
        began = time.monotonic()
        async with self.client.stream(
            request.method, request.path, json=request.body, files=request.files, headers=headers
        ) as response:
            streams = request.streams and response.status_code == 200
            text = await anext(response.aiter_text()) if streams else (await response.aread()).decode()
            after_s = time.monotonic() - began
        return Answered(status=response.status_code, headers=response.headers, text=text, after_s=after_s)

    async def answer_all(self) -> dict[str, Answered]:
        """Send all requests at once, and beside them one after another those that are sent in turn."""
        asked = requests(self.made)
        at_once = {name: each for name, each in asked.items() if not each.in_turn}
        found, in_turn = await asyncio.gather(
            asyncio.gather(*map(self.answer, at_once.values())),
            self._in_turn({name: each for name, each in asked.items() if each.in_turn}),
        )
        return dict(zip(at_once, found, strict=True)) | in_turn

    async def _in_turn(self, asked: Mapping[str, Request]) -> dict[str, Answered]:
        found = {}
        for name, each in asked.items():
            if each.method == "POST":
                await self.pool.execute("DELETE FROM switches WHERE state = 'asked'")
            found[name] = await self.answer(each)
        return found

    async def await_ready(self) -> None:
        """Wait until the gateway is ready."""
        async with asyncio.timeout(READY_S):
            while (await self.answer(Request("GET", "/ready"))).status != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def await_away(self, part: str) -> None:
        """Wait until the gateway knows that a part is away."""
        async with asyncio.timeout(READY_S):
            while await self._works(part):  # noqa: ASYNC110
                await asyncio.sleep(0.1)

    async def _works(self, part: str) -> bool:
        ready = msgspec.json.decode((await self.answer(Request("GET", "/ready"))).text)
        return bool(ready["parts"][part]["ok"])


@pytest.fixture
async def rig(settings: GatewaySettings, kafka_broker: Broker, kafka_proxy: Proxy, valkey: str) -> AsyncIterator[Rig]:
    """A gateway behind whose proxies all is there, and a responder that answers questions."""
    dsn, url = settings.postgres_dsn.get_secret_value(), valkey
    with proxy(port_of(dsn)) as postgres_proxy, proxy(port_of(url)) as valkey_proxy:
        through = {
            "kafka_bootstrap": f"127.0.0.1:{kafka_proxy.port}",
            # asyncpg leaves an error that nobody hears of behind where the server is silent when asked for TLS
            "postgres_dsn": dsn.replace(f":{port_of(dsn)}/", f":{postgres_proxy.port}/") + "?sslmode=disable",
            "valkey_url": url.replace(f":{port_of(url)}/", f":{valkey_proxy.port}/"),
        }
        app = create_app(GatewaySettings.model_validate(settings.model_dump() | through))
        pool = await open_pool(settings)
        async with (
            served(app) as address,
            responder(settings, pool),
            httpx.AsyncClient(base_url=address, timeout=60) as client,
        ):
            routes = {
                f"{method.upper()} {path}" for path, methods in app.openapi()["paths"].items() for method in methods
            }
            made = Rig(
                client=client,
                routes=routes,
                direct=settings,
                pool=pool,
                proxies={"kafka": kafka_proxy, "postgres": postgres_proxy, "valkey": valkey_proxy},
            )
            await made.await_ready()
            await made.make()
            await made.renew()
            yield made
        await pool.close()


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def said(part: str) -> dict[str, int]:
    """What the runbook says that requests are answered while a part is away: status by request."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in RUNBOOK.read_text().splitlines()
        if line.startswith("| `")
    ]
    column = {"kafka": 1, "postgres": 2}[part]
    return {row[0].replace("`", ""): int(row[column][:3]) for row in rows}


def route_of(row: str) -> str:
    """The route that a row of the table speaks of, as `GET /ready`."""
    return " ".join(re.split(r"[ ,]", row)[:2])


def judge(found: Mapping[str, Answered], part: str, how: str) -> None:
    """Each answer is in time, and each refusal says what is away and when to come again."""
    print(part, how, max((each.after_s, name) for name, each in found.items()))
    for name, each in found.items():
        assert each.after_s < ANSWERED_S, (part, how, name, each.after_s)
        if each.status != 503 or name == "GET /ready":
            continue
        problem = msgspec.json.decode(each.text)
        assert each.headers["content-type"] == "application/problem+json", (part, how, name)
        assert each.headers["retry-after"] == "2", (part, how, name)
        assert problem["type"] == "urn:headrace:problem:unavailable", (part, how, name)
        assert problem["detail"].startswith(f"{part.capitalize()} is away or busy ("), (part, how, name, problem)
        assert problem["detail"].endswith("; try again in 2 seconds"), (part, how, name, problem)


async def compare(rig: Rig, how: Callable[[Proxy], AbstractContextManager[None]]) -> None:
    """Take each part away in turn, and compare what all routes answer with what the runbook says."""
    there = {name: each.status for name, each in (await rig.answer_all()).items()}
    assert all(status < 300 for status in there.values()), there
    assert rig.routes == {route_of(name) for name in there}
    for part, between in rig.proxies.items():
        await rig.renew()
        with how(between):
            await rig.await_away(part)
            found = await rig.answer_all()
        judge(found, part, how.__name__)
        statuses = {name: each.status for name, each in found.items()}
        assert statuses == (there if part == "valkey" else said(part)), (part, how.__name__)
        await rig.await_ready()


async def test_each_route_answers_as_the_runbook_says_while_a_part_refuses_connections(rig: Rig) -> None:
    await compare(rig, Proxy.refusing)


@pytest.mark.faults
async def test_each_route_answers_as_the_runbook_says_while_a_part_is_silent(rig: Rig) -> None:
    await compare(rig, Proxy.frozen)
