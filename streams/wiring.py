"""Chooses what implements each port, and puts the stages of one worker process together."""

import asyncio
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx
import structlog

from backbone import telemetry
from backbone.kafka import Admin, Publisher
from backbone.objects import FolderBlobs
from backbone.postgres import check, is_away, open_pool
from backbone.settings import WorkerSettings
from backbone.valkey import Valkey, connected
from schemas.topics import (
    CHUNKS,
    CONTROL,
    DEAD_LETTERS,
    DOCUMENTS,
    EMBEDDINGS,
    FEEDBACK,
    INGEST,
    LIFECYCLE,
    QUERIES,
    RESULTS,
    RETRIEVALS,
    SCORES,
    STAGES,
)
from streams.adapters.cached_vectors import CachedVectors
from streams.adapters.control_feed import ControlFeed
from streams.adapters.gate_bench import HandlerBench
from streams.adapters.kafka_documents import KafkaDocuments
from streams.adapters.kafka_drift import KafkaDrift
from streams.adapters.kafka_feed import KafkaFeed
from streams.adapters.kafka_hop import KafkaHop
from streams.adapters.kafka_log import KafkaLetters, KafkaLog
from streams.adapters.lazy_encoder import LazyEncoder
from streams.adapters.lexical_slot import own_slot
from streams.adapters.object_store import OBJECTS, ObjectStore
from streams.adapters.parse_pool import ParsePool
from streams.adapters.pgvector_ranker import PgvectorRanker
from streams.adapters.postgres_documents import PostgresDocuments
from streams.adapters.postgres_drift import PostgresDrift, PostgresVerifications
from streams.adapters.postgres_evals import PostgresEvals
from streams.adapters.postgres_gates import PostgresGates
from streams.adapters.postgres_generation import PostgresGeneration
from streams.adapters.postgres_holders import PostgresHolders
from streams.adapters.postgres_letters import PostgresLetters
from streams.adapters.postgres_overdue import PostgresOverdue
from streams.adapters.postgres_passages import PostgresPassages
from streams.adapters.postgres_questions import PostgresQuestions
from streams.adapters.postgres_scores import PostgresScores
from streams.adapters.postgres_status import PostgresStatus
from streams.adapters.postgres_views import PostgresServed, PostgresViewReports, PostgresViews
from streams.adapters.prometheus_drift import PrometheusDrift
from streams.adapters.prometheus_observer import PrometheusObserver, PrometheusWriting, Watched
from streams.adapters.tantivy_view import TantivyView
from streams.adapters.uri_source import HttpsUriSource
from streams.chunk.handler import ChunkDocument
from streams.embed.handler import Embed
from streams.errors import Fatal, Transient
from streams.evaluate.handler import Evaluate
from streams.generate.answerer import Answerer
from streams.generate.extractive import Extractive
from streams.generate.handler import Generate
from streams.index.handler import Index
from streams.index_opensearch.handler import OPENSEARCH, IndexOpensearch
from streams.intake.handler import Intake
from streams.intake.rejected import Rejected
from streams.intake.restored import check_not_behind
from streams.lifecycle.handler import Project
from streams.operator.counting import CountOpen
from streams.operator.duty import Duty
from streams.operator.gate.run import RunGates
from streams.operator.handler import Register
from streams.operator.overdue import MendOverdue, Walk
from streams.operator.redrive import Redrive
from streams.operator.verify import Verify
from streams.operator.views import CompareView
from streams.outcome import FailedDocument, FailedQuestion
from streams.retrieve.handler import Retrieve
from streams.runtime.consumer import SafeConsumer
from streams.runtime.outages import KAFKA, Outages, Probe
from streams.runtime.runner import Sender
from streams.runtime.stage import Stage
from streams.runtime.worker import run_worker
from streams.score.handler import Score

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

    from streams.adapters.opensearch_index import OpensearchIndex
    from streams.adapters.openvino_encoder import OpenvinoEncoder

_DATABASE_WAIT_S = 30.0
_COMPARE_AGAIN_S = 1.0
_VIEW_SEEN_S = 4.0
_DUTY_S = 2.0
"""A nudge may be lost; so much later the work is done all the same."""
_COUNT_S = 5.0
_PURGE_S = 6 * 3600.0
_log = structlog.get_logger(__name__)


class SystemClock:
    """`Clock` of this machine."""

    def now_ms(self) -> int:
        """See `Clock`."""
        return time.time_ns() // 1_000_000


@dataclass(frozen=True, kw_only=True)
class Generation:
    """The index generation that a worker serves, as its row says."""

    name: str
    chunker: str
    embedder: str
    dim: int


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What several stages of one process share. `resources` closes all of it.

    `duties` run beside the stages, as `views` and `feeds` do.
    """

    settings: WorkerSettings
    sender: Sender
    pool: "asyncpg.Pool[Any]"
    blobs: ObjectStore
    valkey: Valkey
    generation: Generation
    clock: SystemClock
    resources: AsyncExitStack
    views: list[TantivyView] = field(default_factory=list)
    feeds: list[ControlFeed] = field(default_factory=list)
    duties: list[Duty] = field(default_factory=list)
    opensearch: "list[AsyncOpenSearch]" = field(default_factory=list)
    worker: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def documents(self) -> PostgresDocuments:
        """Versions of documents."""
        return PostgresDocuments(pool=self.pool)

    @property
    def chunks_and_vectors(self) -> PostgresGeneration:
        """The generation's table."""
        return PostgresGeneration(pool=self.pool, generation=self.generation.name, dim=self.generation.dim)

    def control(self) -> ControlFeed:
        """The control topic, which a process reads once."""
        if not self.feeds:
            self.feeds.append(ControlFeed(settings=self.settings, topic=CONTROL.name, blobs=self.blobs))
        return self.feeds[0]

    def opensearch_index(self, generation: Generation) -> "OpensearchIndex":
        """A generation's index in OpenSearch, to which a process has one client.

        Raises:
            Fatal: there is no address of OpenSearch.
        """
        # here, because its SDK costs time and memory, which workers without OpenSearch shall not pay
        from streams.adapters.opensearch import open_client
        from streams.adapters.opensearch_index import Layout, OpensearchIndex

        if not self.opensearch:
            self.opensearch.append(open_client(self.settings))
            self.resources.push_async_callback(self.opensearch[0].close)
        settings = self.settings
        layout = Layout(
            shards=settings.opensearch_shards,
            replicas=settings.opensearch_replicas,
            refresh_ms=settings.opensearch_refresh_ms,
        )
        return OpensearchIndex(
            client=self.opensearch[0], generation=generation.name, dim=generation.dim, clock=self.clock, layout=layout
        )

    def questions(self, stage: str) -> PostgresQuestions:
        """Rows of questions, as this stage of this process claims them and no other does."""
        lease_s = self.settings.question_lease_ms / 1000
        return PostgresQuestions(pool=self.pool, worker=f"{stage}/{self.worker}", lease_s=lease_s)

    def encoder(self, on_encoded: Callable[[int, float], None]) -> "OpenvinoEncoder":
        """Load the generation's encoder.

        Raises:
            Fatal: the generation wants another one, or its files are not there.
        """
        # here, because the model's runtime costs time and memory, which workers without a model shall not pay
        from streams.adapters.openvino_encoder import OpenvinoEncoder

        encoder = OpenvinoEncoder.load(
            self.settings.model_dir, threads=self.settings.encoder_threads, on_encoded=on_encoded
        )
        if (encoder.name, encoder.dim) != (self.generation.embedder, self.generation.dim):
            raise Fatal(
                f"generation {self.generation.name!r} is embedded by {self.generation.embedder!r} with "
                f"{self.generation.dim} dimensions; this worker has {encoder.name!r} with {encoder.dim}"
            )
        self.resources.push_async_callback(encoder.close)
        return encoder


def intake(parts: Parts) -> Stage:
    """Check and version what was submitted."""
    settings = parts.settings
    hosts = frozenset(host.strip().lower() for host in settings.uri_hosts.split(",") if host.strip())
    client = httpx.AsyncClient(trust_env=False, follow_redirects=False)
    parts.resources.push_async_callback(client.aclose)
    uris = HttpsUriSource(client=client, hosts=hosts, max_bytes=settings.document_max_bytes)
    return Stage(
        name="intake",
        group="rag.intake",
        topic=INGEST,
        handler=Intake(
            documents=parts.documents,
            uris=uris,
            clock=parts.clock,
            log=KafkaLog(settings=settings, blobs=parts.blobs),
            document_max_bytes=settings.document_max_bytes,
        ),
        slots=16,
        deadline_s=60,
        decode=False,
        on_dead_letter=Rejected(documents=parts.documents, clock=parts.clock),
    )


def chunk(parts: Parts) -> Stage:
    """Parse and cut documents."""
    settings = parts.settings
    pool = ParsePool(
        tokenizer_file=settings.model_dir / "tokenizer.json",
        timeout_s=settings.parse_timeout_ms / 1000,
        memory_bytes=settings.parse_memory_bytes,
    )
    parts.resources.push_async_callback(pool.close)
    return Stage(
        name="chunk",
        group=f"rag.chunk.{parts.generation.chunker}",
        topic=DOCUMENTS,
        handler=ChunkDocument(
            parser=pool,
            documents=parts.documents,
            blobs=parts.blobs,
            chunker=parts.generation.chunker,
            clock=parts.clock,
        ),
        slots=pool.n_children,
        # a document may be parsed twice, each time by a child that has to start first
        deadline_s=2 * settings.parse_timeout_ms / 1000 + 120,
        on_dead_letter=FailedDocument(stage="chunk", clock=parts.clock),
    )


def embed(parts: Parts) -> Stage:
    """Make vectors."""

    def on_encoded(n: int, seconds: float) -> None:
        telemetry.CHUNKS_ENCODED.inc(n)
        telemetry.ENCODER_SECONDS.labels("ingest").inc(seconds)

    return Stage(
        name="embed",
        group=f"rag.embed.{parts.generation.name}",
        topic=CHUNKS.named(parts.generation.chunker),
        handler=Embed(
            encoder=parts.encoder(on_encoded),
            generation=parts.chunks_and_vectors,
            documents=parts.documents,
            name=parts.generation.name,
            clock=parts.clock,
            on_spared=telemetry.CHUNKS_SPARED.inc,
        ),
        slots=16,
        # the largest document has 20,000 chunks, and two old cores encode 30 in a second
        deadline_s=1200,
        on_dead_letter=FailedDocument(stage="embed", clock=parts.clock),
    )


def index(parts: Parts) -> Stage:
    """Make versions live."""
    return Stage(
        name="index",
        group=f"rag.index.{parts.generation.name}",
        topic=EMBEDDINGS.named(parts.generation.name),
        handler=Index(generation=parts.chunks_and_vectors, name=parts.generation.name, clock=parts.clock),
        slots=4,
        # 20,000 chunks enter the vector index
        deadline_s=900,
        on_dead_letter=FailedDocument(stage="index", clock=parts.clock),
    )


def index_opensearch(parts: Parts) -> Stage:
    """Write the generation to OpenSearch."""
    index = parts.opensearch_index(parts.generation)

    async def purge() -> None:
        n = await index.purge()
        if n:
            _log.info("delete_markers_purged", n=n)

    parts.duties.append(Duty(name="purge", round=purge, every_s=_PURGE_S, woken=asyncio.Event()))
    return Stage(
        name="index_opensearch",
        group=f"rag.index.{parts.generation.name}.opensearch",
        topic=EMBEDDINGS.named(parts.generation.name),
        handler=IndexOpensearch(sink=index),
        slots=8,
        # 20,000 chunks enter the vector index
        deadline_s=900,
        on_dead_letter=FailedDocument(stage="index_opensearch", clock=parts.clock),
        needs=(OPENSEARCH,),
    )


def lifecycle(parts: Parts) -> Stage:
    """Project the status of documents."""
    return Stage(
        name="lifecycle",
        group="rag.lifecycle",
        topic=LIFECYCLE,
        handler=Project(status=PostgresStatus(pool=parts.pool)),
        slots=8,
        deadline_s=30,
    )


def retrieve(parts: Parts) -> Stage:
    """Find evidence."""

    def on_encoded(_: int, seconds: float) -> None:
        telemetry.ENCODER_SECONDS.labels("query").inc(seconds)

    generation = parts.generation
    feed = KafkaFeed(settings=parts.settings, topic=CHUNKS.named(generation.chunker).name)
    folder = parts.resources.enter_context(own_slot(parts.settings.lexical_dir))
    view = TantivyView(folder=folder, feed=feed, blobs=parts.blobs, clock=parts.clock)
    parts.views.append(view)
    _report_view(parts, view, f"{socket.gethostname()}:{folder.resolve()}")
    handler = Retrieve(
        vectors=CachedVectors(
            encoder=parts.encoder(on_encoded),
            cache=parts.valkey,
            count=lambda source: telemetry.QUESTION_VECTORS.labels(source).inc(),
        ),
        dense=PgvectorRanker(pool=parts.pool, generation=generation.name),
        lexical=view,
        passages=PostgresPassages(pool=parts.pool, generation=generation.name, dim=generation.dim),
        clock=parts.clock,
    )

    async def exists(name: str) -> bool:
        return name == generation.name

    async def search(_: str) -> Retrieve:
        return handler

    _judge(parts, exists, search)
    return Stage(
        name="retrieve",
        group="rag.retrieve",
        topic=QUERIES,
        handler=handler,
        slots=16,
        deadline_s=30,
        retry_max_s=20,
        on_dead_letter=FailedQuestion(questions=parts.questions("retrieve")),
    )


def _judge(
    parts: Parts, exists: Callable[[str], Awaitable[bool]], search: Callable[[str], Awaitable[Retrieve]]
) -> None:
    """Let this process carry out gates, over the generations that it searches."""
    gates = RunGates(
        gates=PostgresGates(pool=parts.pool),
        bench=HandlerBench(
            exists=exists, search=search, clock=parts.clock, context_tokens=parts.settings.llm_context_tokens
        ),
    )
    parts.duties.append(Duty(name="gate", round=gates.round, every_s=_DUTY_S, woken=parts.control().woken("gate")))


def _report_view(parts: Parts, view: TantivyView, worker: str) -> None:
    reports = PostgresViewReports(pool=parts.pool, worker=worker, generation=parts.generation.name)
    documents = PostgresServed(pool=parts.pool, generation=parts.generation.name)
    compare = CompareView(view=view, documents=documents, reports=reports)
    woken = parts.control().woken("verify")
    parts.duties.append(Duty(name="view", round=compare.round, every_s=_DUTY_S, woken=woken))
    at_once = asyncio.Event()
    at_once.set()
    parts.duties.append(Duty(name="view_seen", round=compare.seen, every_s=_VIEW_SEEN_S, woken=at_once))


def answerer(parts: Parts) -> Answerer:
    """Choose what writes answers.

    Raises:
        Fatal: the settings of the language model are not complete.
    """
    if not parts.settings.llm_base_url:
        return Extractive()
    # here, because the SDK costs a second and 40 MB, which workers without a model shall not pay
    from streams.adapters.openai_chain import open_chain

    return open_chain(parts.settings, parts.resources)


def generate(parts: Parts) -> Stage:
    """Write answers."""
    questions = parts.questions("generate")
    return Stage(
        name="generate",
        group="rag.generate",
        topic=RETRIEVALS,
        handler=Generate(
            questions=questions,
            answerer=answerer(parts),
            cancellations=parts.control(),
            observer=PrometheusWriting(),
            lease_s=questions.lease_s,
        ),
        slots=32,
        # a question has ten minutes at most, and its own deadline ends its writing
        deadline_s=660,
        # as long as a question may have: a chain begins at its next link each time, and the deadline ends it all
        retry_max_s=600,
        on_dead_letter=FailedQuestion(questions=questions),
    )


def score(parts: Parts) -> Stage:
    """Rate answers."""

    def on_encoded(_: int, seconds: float) -> None:
        telemetry.ENCODER_SECONDS.labels("score").inc(seconds)

    generation = parts.generation
    return Stage(
        name="score",
        group="rag.score",
        topic=RESULTS,
        handler=Score(
            passages=PostgresPassages(pool=parts.pool, generation=generation.name, dim=generation.dim),
            encoder=LazyEncoder(name=generation.embedder, dim=generation.dim, load=lambda: parts.encoder(on_encoded)),
            scores=PostgresScores(pool=parts.pool),
            clock=parts.clock,
        ),
        slots=16,
        deadline_s=60,
    )


def evaluate(parts: Parts) -> Stage:
    """Log evals."""
    return Stage(
        name="evaluate",
        group="rag.evaluate",
        topic=RESULTS,
        more_topics=(SCORES, FEEDBACK),
        handler=Evaluate(evals=PostgresEvals(pool=parts.pool)),
        slots=16,
        deadline_s=30,
    )


def operator(parts: Parts) -> Stage:
    """Register dead letters, and carry out what an operator wants done."""
    letters = PostgresLetters(pool=parts.pool)
    redrive = Redrive(letters=letters, records=KafkaLetters(settings=parts.settings), sender=parts.sender)
    parts.duties.append(
        Duty(name="redrive", round=redrive.round, every_s=_DUTY_S, woken=parts.control().woken("redrive"))
    )
    count = CountOpen(
        letters=letters,
        counted=lambda stage, reason, n: telemetry.DEAD_LETTERS_OPEN.labels(stage, reason).set(n),
    )
    at_once = asyncio.Event()
    at_once.set()
    parts.duties.append(Duty(name="count", round=count.round, every_s=_COUNT_S, woken=at_once))
    drift = PrometheusDrift(generation=parts.generation.name)
    verify = Verify(
        verifications=PostgresVerifications(pool=parts.pool, generation=parts.generation.name),
        open_log=lambda: nullcontext(_log_side(parts)),
        tables=PostgresDrift(pool=parts.pool, generation=parts.generation.name),
        views=PostgresViews(pool=parts.pool, generation=parts.generation.name),
        sender=parts.sender,
        observer=drift,
    )
    parts.duties.append(Duty(name="verify", round=verify.round, every_s=_DUTY_S, woken=parts.control().woken("verify")))
    settings = parts.settings
    admin = Admin(settings)
    hops = [KafkaHop(admin=admin, group=group, topic=topic) for group, topic in _ingest_lane(parts)]
    overdue = MendOverdue(
        documents=PostgresOverdue(pool=parts.pool, generation=parts.generation.name),
        walk=Walk(hops=hops, clock=parts.clock),
        sender=parts.sender,
        clock=parts.clock,
        observer=drift,
        after_s=settings.overdue_after_ms / 1000,
        at_once_max=settings.overdue_reissues_max,
    )
    parts.duties.append(
        Duty(
            name="overdue",
            round=overdue.round,
            every_s=settings.overdue_interval_ms / 1000,
            woken=asyncio.Event(),
        )
    )
    # its own dead letters are left out: each would make another one
    first, *others = (DEAD_LETTERS.named(stage) for stage in STAGES if stage != "operator")
    return Stage(
        name="operator",
        group="rag.operator",
        topic=first,
        more_topics=tuple(others),
        handler=Register(letters=letters),
        slots=8,
        deadline_s=30,
        decode=False,
        whole=False,
    )


def _log_side(parts: Parts) -> KafkaDrift:
    return KafkaDrift(
        settings=parts.settings,
        blobs=parts.blobs,
        chunker=parts.generation.chunker,
        generation=parts.generation.name,
        stages=_ingest_lane(parts),
    )


def _ingest_lane(parts: Parts) -> Sequence[tuple[str, str]]:
    """Groups and topics of the stages between acceptance and index, in the order of the flow."""
    chunker, generation = parts.generation.chunker, parts.generation.name
    return (
        ("rag.intake", INGEST.name),
        (f"rag.chunk.{chunker}", DOCUMENTS.name),
        (f"rag.embed.{generation}", CHUNKS.named(chunker).name),
        (f"rag.index.{generation}", EMBEDDINGS.named(generation).name),
        ("rag.lifecycle", LIFECYCLE.name),
    )


Builder = Callable[[Parts], Stage]

BUILDERS: Mapping[str, Builder] = {
    builder.__name__: builder
    for builder in (
        intake,
        chunk,
        embed,
        index,
        index_opensearch,
        lifecycle,
        retrieve,
        generate,
        score,
        evaluate,
        operator,
    )
}
"""A stage's name and the function that builds it."""


async def run(
    settings: WorkerSettings,
    names: Sequence[str],
    *,
    consumer: type[SafeConsumer] = SafeConsumer,
    builders: Mapping[str, Builder] = BUILDERS,
) -> int:
    """Run the named stages in this process until it is told to stop; returns its exit code.

    Args:
        settings: of the worker.
        names: stages, each at most once.
        consumer: acknowledges and commits; fault tests put a worse one in.
        builders: of each stage; fault tests put worse ones in.
    """
    ready = dict.fromkeys(names, False)

    def on_ready() -> None:
        ready.update(dict.fromkeys(names, True))

    def on_stop() -> None:
        ready.update(dict.fromkeys(names, False))

    async with Publisher(settings) as publisher, assembled(settings, publisher) as parts:
        stages = [_watched(builders[name](parts)) for name in names]
        observer = PrometheusObserver()
        outages = Outages(probes=_probes(parts), observer=observer)

        def away() -> dict[str, str]:
            return {part: outage.why for part, outage in outages.away().items()}

        await parts.resources.enter_async_context(_endpoint(settings.metrics_port, ready, away))
        working = asyncio.create_task(
            run_worker(
                stages,
                kafka=settings,
                publisher=publisher,
                blobs=parts.blobs,
                observer=observer,
                before_join=lambda stage: _caught_up(parts, stage),
                on_ready=on_ready,
                on_stop=on_stop,
                consumer=consumer,
                outages=outages,
                holders=PostgresHolders(pool=parts.pool, holder=parts.worker),
            )
        )
        beside: list[Coroutine[Any, Any, None]] = [view.run() for view in parts.views]
        beside += [feed.run() for feed in parts.feeds]
        return await _beside(working, beside + [duty.run() for duty in parts.duties])


def _probes(parts: Parts) -> Mapping[str, Probe]:
    probes: dict[str, Probe] = {
        KAFKA: Admin(parts.settings).check,
        "postgres": lambda: check(parts.settings),
        OBJECTS: parts.blobs.check,
    }
    if parts.opensearch:
        from streams.adapters.opensearch import check as check_opensearch

        probes[OPENSEARCH] = partial(check_opensearch, parts.opensearch[0])
    return probes


def _watched(stage: Stage) -> Stage:
    return replace(stage, handler=Watched(stage=stage.name, handler=stage.handler))


async def _beside(working: "asyncio.Task[int]", others: Sequence[Coroutine[Any, Any, None]]) -> int:
    """Run views and feeds beside the worker; one that fails ends the worker."""
    following = [asyncio.create_task(other) for other in others]
    try:
        await asyncio.wait([working, *following], return_when=asyncio.FIRST_COMPLETED)
        for task in following:
            if task.done():
                await task
        return await working
    finally:
        working.cancel()
        for follower in following:
            follower.cancel()
        await asyncio.gather(working, *following, return_exceptions=True)


async def _caught_up(parts: Parts, stage: Stage) -> None:
    if stage.name == "retrieve":
        await asyncio.gather(*(view.catch_up() for view in parts.views))
    if stage.name in ("intake", "index"):
        # they write versions into the table
        await _not_behind(parts)
    if stage.name == "index_opensearch":
        await _has_index(parts.opensearch_index(parts.generation))


async def _has_index(index: "OpensearchIndex") -> None:
    """Make the index once OpenSearch answers, unless it is there."""
    while True:
        try:
            if await index.ensure():
                _log.warning("opensearch_index_made", index=index.name)
            return
        except Transient as error:
            _log.warning("opensearch_index_not_looked_for", error=str(error))
            await asyncio.sleep(_COMPARE_AGAIN_S)


async def _not_behind(parts: Parts) -> None:
    """Check, once both answer, that the database is not older than the log."""
    log = KafkaDocuments(settings=parts.settings, blobs=parts.blobs)
    while True:
        try:
            return await check_not_behind(log, parts.documents)
        except Transient as error:
            _log.warning("log_and_database_not_compared", error=str(error))
            await asyncio.sleep(_COMPARE_AGAIN_S)


@asynccontextmanager
async def _endpoint(port: int, ready: dict[str, bool], away: Callable[[], dict[str, str]]) -> AsyncIterator[None]:
    if not port:
        yield
        return
    async with telemetry.serve_worker_endpoint(port, lambda: ready, away):
        yield


@asynccontextmanager
async def assembled(settings: WorkerSettings, sender: Sender) -> AsyncIterator[Parts]:
    """Connect to what the stages share, and close it with the block."""
    async with AsyncExitStack() as resources:
        pool = await resources.enter_async_context(_pool(settings))
        yield Parts(
            settings=settings,
            sender=sender,
            pool=pool,
            blobs=ObjectStore(folder=FolderBlobs(settings.objects_dir)),
            valkey=await resources.enter_async_context(connected(settings)),
            generation=await _generation(pool, settings.generation),
            clock=SystemClock(),
            resources=resources,
        )


@asynccontextmanager
async def _pool(settings: WorkerSettings) -> AsyncIterator["asyncpg.Pool[Any]"]:
    # terminate, not close: a handler that was cancelled must not hold up the end
    pool = await open_pool(settings)
    try:
        yield pool
    finally:
        pool.terminate()


async def _generation(pool: "asyncpg.Pool[Any]", name: str) -> Generation:
    """Read the generation's row, waiting for a database that is still starting."""
    deadline = time.monotonic() + _DATABASE_WAIT_S
    while True:
        try:
            row = await pool.fetchrow(
                "SELECT generation AS name, chunker, embedder, dim FROM generations WHERE generation = $1", name
            )
            break
        except Exception as error:
            if not is_away(error) or time.monotonic() > deadline:
                raise Fatal(f"cannot read the index generation from Postgres: {error}") from error
            await asyncio.sleep(0.5)
    if row is None:
        raise Fatal(f"there is no index generation {name!r}; HEADRACE_GENERATION names one of the table `generations`")
    return Generation(**dict(row))
