"""The gateway on a real Kafka and a real Postgres; a small responder plays the workers."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import msgspec

from backbone.kafka import END, Admin, PartitionReader, Publisher, Received, Start
from backbone.objects import FolderBlobs
from backbone.settings import GatewaySettings
from gateway.app import create_app
from schemas.codec import Record, decode, headers_of
from schemas.events import QueryAsked, Reply
from schemas.postgres.generation import create_generation, point_alias
from schemas.topics import ANSWERS, QUERIES, concrete
from tests.gateway.factories import ANSWER, EVIDENCE, KEYS, reply, sources, whole_answer


async def prepare(kafka: str, dsn: str, folder: Path) -> GatewaySettings:
    """Make topics, tables and keys for a gateway, and return its settings."""
    connection = await asyncpg.connect(dsn)
    await create_generation(connection, "g1", "structure", "test", 4)
    await point_alias(connection, "live", "g1")
    await connection.close()
    (folder / "keys.json").write_text(json.dumps(KEYS))
    values = {
        "kafka_bootstrap": kafka,
        "postgres_dsn": dsn,
        "objects_dir": folder / "objects",
        "api_keys_file": folder / "keys.json",
    }
    settings = GatewaySettings.model_validate(values)
    await Admin(settings).ensure_topics(concrete(chunker="structure", generation="g1"))
    return settings


@asynccontextmanager
async def running(settings: GatewaySettings) -> AsyncIterator[Callable[[str], httpx.AsyncClient]]:
    """Run a gateway until the block ends; gives a client for a key."""
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)

        def client(key: str) -> httpx.AsyncClient:
            headers = {"Authorization": f"Bearer {key}"}
            return httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers, timeout=30)

        async with asyncio.timeout(20), client("acme-key") as probe:
            while (ready := await probe.get("/ready")).status_code != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert set(ready.json()["parts"]) == {"kafka", "postgres", "objects", "reply_reader"}
        yield client


@asynccontextmanager
async def responder(settings: GatewaySettings, pool: Any) -> AsyncIterator[None]:
    """Play retrieve and generate: sources or hits, then an answer, stored before it is done."""
    blobs = FolderBlobs(settings.objects_dir)

    async def respond(publisher: Publisher, asked: QueryAsked) -> None:
        async def say(*replies: Reply) -> None:
            for each in replies:
                value = msgspec.json.encode(each)
                await publisher.send(
                    ANSWERS.name, key=asked.query.encode(), value=value, partition=asked.reply_partition
                )

        if asked.kind == "search":
            await say(reply(asked, "hits", 0, 0, evidence=[EVIDENCE]))
            return
        *before, done = whole_answer(asked)
        await say(sources(asked), *before)
        await pool.execute(
            "UPDATE queries SET state = 'finished', attempt = 1, outcome = 'done', answer = $2, terminal_seq = 3, "
            "finished_at = now(), published_at = now() WHERE id = $1",
            asked.query,
            msgspec.to_builtins(ANSWER),
        )
        await say(done)

    async def work(reader: PartitionReader, publisher: Publisher) -> None:
        async for item in reader:
            if isinstance(item, Received):
                record = Record(key=item.key, value=item.value, headers=headers_of(item.headers))
                asked = await decode(record, QueryAsked, blobs=blobs)
                assert asked is not None
                await respond(publisher, asked)

    starts: dict[int, Start] = dict.fromkeys(range(QUERIES.partitions), END)
    async with Publisher(settings) as publisher, PartitionReader(settings, QUERIES.name, starts) as reader:
        working = asyncio.create_task(work(reader, publisher))
        yield
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
