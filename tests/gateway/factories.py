"""A gateway without Kafka and Postgres, and what tests send through it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from backbone.kafka import Received
from backbone.settings import GatewaySettings
from gateway.admission import Admission
from gateway.admission.capacity import Capacity
from gateway.admission.opening import of_searches
from gateway.admission.promises import MemoryPromises
from gateway.admission.watch import OwnWatch
from gateway.app import create_app
from gateway.auth import ApiKeys
from gateway.log.shared import SharedLog, tenant_of
from gateway.ports import DocumentRow, QuestionRow, Services
from gateway.replies import Replies
from gateway.sse import OpenStreams
from schemas.events import Answer, Citation, Evidence, Filters, QueryAsked, Reply, Usage
from schemas.ids import new_query_id
from tests.doubles.blobs import MemoryBlobs
from tests.doubles.gate_rows import MemoryGateRows
from tests.doubles.gateway import (
    MemoryDocumentRows,
    MemoryKeyRows,
    MemoryQuestionRows,
    MemoryReplies,
    MemorySender,
    MemorySweptRows,
)
from tests.doubles.generation_rows import MemoryGenerationRows
from tests.doubles.letter_rows import MemoryLetterRows
from tests.doubles.rebuilds import MemoryRebuildRows
from tests.doubles.verification_rows import MemoryVerificationRows

KEYS = {
    "acme-key": {"tenant": "acme", "groups": ["staff"]},
    "globex-key": {"tenant": "globex"},
    "operator-key": {"tenant": "operations", "operator": True},
}


@dataclass(kw_only=True)
class Gateway:
    """A running gateway: its clients by tenant, and what is behind it."""

    acme: httpx.AsyncClient
    globex: httpx.AsyncClient
    operator: httpx.AsyncClient
    anyone: httpx.AsyncClient
    app: FastAPI
    sender: MemorySender
    blobs: MemoryBlobs
    documents: MemoryDocumentRows
    questions: MemoryQuestionRows
    letters: MemoryLetterRows
    verifications: MemoryVerificationRows
    generations: MemoryGenerationRows
    rebuilds: MemoryRebuildRows
    gates: MemoryGateRows
    records: dict[tuple[str, int, int], Received]
    swept: MemorySweptRows
    services: Services
    replies: MemoryReplies
    broken: dict[str, Exception]


@asynccontextmanager
async def gateway_in_memory(
    folder: Path, *, beside: Gateway | None = None, partition: int = 2, **settings: Any
) -> AsyncIterator[Gateway]:
    """Run a gateway on doubles; one `beside` another has its Kafka, its Postgres and its objects."""
    keys = folder / "keys.json"
    keys.write_text(json.dumps(KEYS))
    values = {
        "api_keys_file": keys,
        "query_timeout_ms": 5_000,
        "body_max_bytes": 65_536,
        "score_wait_ms": 50,
    } | settings
    configured = GatewaySettings.model_validate(values)
    blobs = beside.blobs if beside else MemoryBlobs()
    documents = beside.documents if beside else MemoryDocumentRows()
    questions = beside.questions if beside else MemoryQuestionRows()
    letters = MemoryLetterRows(documents=documents)
    verifications = MemoryVerificationRows()
    generations = MemoryGenerationRows()
    rebuilds = MemoryRebuildRows()
    gates = MemoryGateRows()
    records: dict[tuple[str, int, int], Received] = {}
    kafka = beside.replies if beside else MemoryReplies()
    sender = MemorySender(answers=kafka.log)
    swept = MemorySweptRows(questions=questions)
    broken: dict[str, Exception] = {}

    async def check_kafka() -> None:
        if "kafka" in broken:
            raise broken["kafka"]

    async def record_at(topic: str, partition: int, offset: int) -> Received | None:
        if "kafka" in broken:
            raise broken["kafka"]
        return records.get((topic, partition, offset))

    async def check_objects() -> None:
        if "objects" in broken:
            raise broken["objects"]

    async def check_valkey() -> None:
        if "valkey" in broken:
            raise broken["valkey"]

    @asynccontextmanager
    async def connect(settings: GatewaySettings) -> AsyncIterator[Services]:
        replies = Replies(kafka.log.open, blobs)
        replies.lease(partition)
        lifecycle = SharedLog(kafka.lifecycle.open, group_of=tenant_of)
        reading = [asyncio.create_task(log.run()) for log in (replies.log, lifecycle)]
        tail = replies.log.tail(partition)
        assert tail is not None
        await tail.until_current()
        yield Services(
            settings=settings,
            keys=ApiKeys(keys),
            sender=sender,
            blobs=blobs,
            documents=documents,
            questions=questions,
            swept=swept,
            idempotency=MemoryKeyRows(),
            letters=letters,
            verifications=verifications,
            generations=generations,
            rebuilds=rebuilds,
            gates=gates,
            record_at=record_at,
            replies=replies,
            lifecycle=lifecycle,
            streams=OpenStreams(settings.streams_max),
            admission=own_admission(settings),
            searches=of_searches(settings),
            checks={"kafka": check_kafka},
            optional_checks={"objects": check_objects, "valkey": check_valkey},
        )
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)

    app = create_app(configured, connect)

    def client(key: str | None) -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://gateway", headers=headers)

    async with (
        app.router.lifespan_context(app),
        client("acme-key") as acme,
        client("globex-key") as globex,
        client("operator-key") as operator,
        client(None) as anyone,
    ):
        yield Gateway(
            acme=acme,
            globex=globex,
            operator=operator,
            anyone=anyone,
            app=app,
            sender=sender,
            blobs=blobs,
            documents=documents,
            questions=questions,
            letters=letters,
            verifications=verifications,
            generations=generations,
            rebuilds=rebuilds,
            gates=gates,
            records=records,
            swept=swept,
            services=app.state.services,
            replies=kafka,
            broken=broken,
        )


def own_admission(settings: GatewaySettings) -> Admission:
    """The admission of questions where there is one gateway and no table."""
    return Admission(
        kind="question",
        tenant_max=settings.questions_per_tenant_max,
        capacity=Capacity(most=settings.questions_max, least=settings.questions_min),
        watch=OwnWatch(),
        promises=MemoryPromises(clock=time.monotonic),
    )


def document_row(id: str, **changes: Any) -> DocumentRow:
    """A document as Postgres would know it."""
    attributes = {
        "collection": "default",
        "latest_version": 1,
        "live_version": 1,
        "failure": None,
        "warnings": [],
        "metadata": {},
    }
    values = {"id": id, "status": "indexed", "deleted": False, "readable": True, "applied": {3: 10}}
    return DocumentRow(**{**values, "attributes": attributes | changes.pop("attributes", {}), **changes})


def question(**changes: Any) -> QueryAsked:
    """A question of acme, answered in partition 2."""
    values: dict[str, Any] = {
        "query": new_query_id(),
        "tenant": "acme",
        "text": "When does it open?",
        "kind": "answer",
        "top_k": 8,
        "reply_partition": 2,
        "deadline_ms": 31_000,
        "asked_ms": 1_000,
        "generation": "g1",
        "filters": Filters(groups=["staff"]),
        "user": "ada",
    }
    return QueryAsked(**(values | changes))


async def ask(gateway: Gateway, **changes: Any) -> QuestionRow:
    """Put a question of acme into Postgres as it would be after these changes to its row."""
    asked = question()
    await gateway.questions.insert(asked, reply_offset=41)
    gateway.questions.change(asked.query, {"pending"}, **changes)
    return gateway.questions.rows["acme", asked.query]


EVIDENCE = Evidence(
    document="gates.md",
    version=1,
    chunk="c1",
    text="The gate opens at 4.2 metres.",
    start=9,
    end=38,
    score=0.8,
    scores={"dense": 0.7},
    title="Gates",
    headings=["Gates"],
)
ANSWER = Answer(
    text="It opens at 4.2 metres. [1]",
    citations=[
        Citation(marker=1, document="gates.md", chunk="c1", quote="The gate opens at 4.2 metres.", start=9, end=38)
    ],
    usage=Usage(),
)


def reply(asked: QueryAsked, type: str, attempt: int, seq: int, **fields: Any) -> Reply:
    """One reply to a question."""
    values = {"query": asked.query, "tenant": asked.tenant} | fields
    return Reply(type=type, attempt=attempt, seq=seq, **values)


def sources(asked: QueryAsked) -> Reply:
    """What retrieve says first."""
    return reply(asked, "sources", 0, 0, evidence=[EVIDENCE])


def whole_answer(asked: QueryAsked, attempt: int = 1) -> list[Reply]:
    """What generate says in one attempt."""
    return [
        reply(asked, "token", attempt, 0, token="It opens "),
        reply(asked, "token", attempt, 1, token="at 4.2 metres. [1]"),
        reply(asked, "answer", attempt, 2, answer=ANSWER),
        reply(asked, "done", attempt, 3, elapsed_ms=9.0),
    ]


def sse(text: str) -> list[tuple[str, dict[str, Any], str | None]]:
    """Read server-sent events: name, data, id."""
    events = []
    for block in text.replace("\r\n", "\n").strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            events.append((fields["event"], json.loads(fields["data"]), fields.get("id")))
    return events
