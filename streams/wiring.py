"""Chooses what implements each port, and puts the stages of one worker process together."""

import asyncio
import os
import signal
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
from backbone.postgres import check, open_pool
from backbone.settings import WorkerSettings
from backbone.valkey import Valkey, connected
from schemas.codec import encode
from schemas.events import ControlSent
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
from streams.adapters.encoders import Encoders
from streams.adapters.gate_bench import HandlerBench
from streams.adapters.kafka_belongings import KafkaBelongings
from streams.adapters.kafka_documents import KafkaDocuments
from streams.adapters.kafka_drift import KafkaDrift
from streams.adapters.kafka_embeddings import KafkaEmbeddings
from streams.adapters.kafka_hop import KafkaHop
from streams.adapters.kafka_log import KafkaLetters, KafkaLog
from streams.adapters.lazy_encoder import LazyEncoder
from streams.adapters.lexical_slot import own_slot
from streams.adapters.lexical_views import LexicalViews
from streams.adapters.object_store import OBJECTS, ObjectStore
from streams.adapters.paced_encoder import PacedEncoder
from streams.adapters.parse_pool import ParsePool
from streams.adapters.pgvector_ranker import PgvectorRanker
from streams.adapters.postgres_catalogue import PostgresCatalogue
from streams.adapters.postgres_documents import PostgresDocuments
from streams.adapters.postgres_drift import PostgresDrift, PostgresVerifications
from streams.adapters.postgres_evals import PostgresEvals
from streams.adapters.postgres_gates import PostgresGates
from streams.adapters.postgres_generation import PostgresGeneration
from streams.adapters.postgres_generations import PostgresGenerations
from streams.adapters.postgres_holders import PostgresHolders
from streams.adapters.postgres_letters import PostgresLetters
from streams.adapters.postgres_overdue import PostgresOverdue
from streams.adapters.postgres_passages import PostgresPassages
from streams.adapters.postgres_questions import PostgresQuestions
from streams.adapters.postgres_rebuilds import PostgresRebuilds, PostgresRebuiltViews, RebuiltTable
from streams.adapters.postgres_scores import PostgresScores
from streams.adapters.postgres_shadows import PostgresShadows
from streams.adapters.postgres_status import PostgresStatus
from streams.adapters.postgres_sunk import PostgresSunk
from streams.adapters.postgres_views import PostgresServed, PostgresViewReports, PostgresViews
from streams.adapters.prometheus_drift import PrometheusDrift
from streams.adapters.prometheus_observer import PrometheusObserver, PrometheusWriting, Watched
from streams.adapters.shadow_bench import Judge, ScoredBench
from streams.adapters.uri_source import HttpsUriSource
from streams.chunk.chunkers import parse_chunker
from streams.chunk.handler import ChunkDocument
from streams.embed.handler import Embed
from streams.errors import Fatal, Transient, Unprocessable
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
from streams.operator.each import EachGeneration
from streams.operator.gate.run import RunGates
from streams.operator.generations import Belongings, CarryOut, NoOpensearch
from streams.operator.handler import Register
from streams.operator.overdue import MendOverdue, Walk
from streams.operator.rebuild import RebuildSinks, Rebuilt
from streams.operator.rebuild import Subject as RebuildSubject
from streams.operator.redrive import Redrive
from streams.operator.reissue import acknowledged
from streams.operator.shadow import ReportShadows, RunShadows
from streams.operator.verify import Subject, Verify
from streams.operator.views import CompareView, OwnView, RebuildView, RenewableView
from streams.outcome import FailedDocument, FailedQuestion
from streams.ports import DenseRanker, Encoder, Generation, LexicalRanker, SunkVersions
from streams.retrieve.fusion import DENSE, LEXICAL
from streams.retrieve.generations import Opened, OpenGenerations
from streams.retrieve.handler import Retrieve
from streams.routed import ByGeneration
from streams.runtime.consumer import SafeConsumer
from streams.runtime.outages import KAFKA, Outages, Probe
from streams.runtime.runner import Sender
from streams.runtime.stage import Stage
from streams.runtime.worker import run_worker
from streams.score.handler import Score

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

    from streams.adapters.opensearch_index import OpensearchIndex

_DATABASE_WAIT_S = 30.0
_COMPARE_AGAIN_S = 1.0
_VIEW_SEEN_S = 4.0
_OF_A_GENERATION = frozenset({"chunk", "embed", "index", "index_opensearch"})
"""Stages that work for one generation."""
_DUTY_S = 2.0
"""A nudge may be lost; so much later the work is done all the same."""
_COUNT_S = 5.0
_PURGE_S = 6 * 3600.0
_KEEP_S = 15.0
"""Much less than a record is tried again for want of the index."""
_log = structlog.get_logger(__name__)


class SystemClock:
    """`Clock` of this machine."""

    def now_ms(self) -> int:
        """See `Clock`."""
        return time.time_ns() // 1_000_000


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What several stages of one process share. `resources` closes all of it.

    Attributes:
        generation: that this process embeds and indexes.
        live: that generation answers, so this process works in the live lane, not in a replay.
        catalogue: all generations.
        searches: those that this process searches; None: it searches none.
        duties: run beside the stages, as `feeds` and `searches` do.
    """

    settings: WorkerSettings
    sender: Sender
    pool: "asyncpg.Pool[Any]"
    blobs: ObjectStore
    valkey: Valkey
    generation: Generation
    live: bool
    catalogue: PostgresCatalogue
    clock: SystemClock
    resources: AsyncExitStack
    encoders: Encoders
    searches: list[OpenGenerations] = field(default_factory=list)
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

    def opensearch_client(self) -> "AsyncOpenSearch":
        """The client of OpenSearch, of which a process has one.

        Raises:
            Fatal: there is no address of OpenSearch.
        """
        # here, because its SDK costs time and memory, which workers without OpenSearch shall not pay
        from streams.adapters.opensearch import open_client

        if not self.opensearch:
            self.opensearch.append(open_client(self.settings))
            self.resources.push_async_callback(self.opensearch[0].close)
        return self.opensearch[0]

    def opensearch_index(self, generation: Generation) -> "OpensearchIndex":
        """A generation's index in OpenSearch.

        Raises:
            Fatal: there is no address of OpenSearch.
        """
        from streams.adapters.opensearch_index import Layout, OpensearchIndex

        client, settings = self.opensearch_client(), self.settings
        layout = Layout(
            shards=settings.opensearch_shards,
            replicas=settings.opensearch_replicas,
            refresh_ms=settings.opensearch_refresh_ms,
        )
        return OpensearchIndex(
            client=client, generation=generation.name, dim=generation.dim, clock=self.clock, layout=layout
        )

    def questions(self, stage: str) -> PostgresQuestions:
        """Rows of questions, as this stage of this process claims them and no other does."""
        lease_s = self.settings.question_lease_ms / 1000
        return PostgresQuestions(pool=self.pool, worker=f"{stage}/{self.worker}", lease_s=lease_s)

    def encoder(self, generation: Generation, lane: str) -> Encoder:
        """Return the encoder of a generation, which is opened once for each lane: `ingest`, `query` or `score`.

        Raises:
            Fatal: there is no such embedder here, or a part of it is missing.
        """

        def on_encoded(n: int, seconds: float) -> None:
            if lane == "ingest":
                telemetry.CHUNKS_ENCODED.inc(n)
            telemetry.ENCODER_SECONDS.labels(lane).inc(seconds)

        return self.encoders.get(generation.embedder, dim=generation.dim, lane=lane, on_encoded=on_encoded)


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
            generation=None if parts.live else parts.generation.name,
        ),
        slots=pool.n_children,
        # a document may be parsed twice, each time by a child that has to start first
        deadline_s=2 * settings.parse_timeout_ms / 1000 + 120,
        on_dead_letter=FailedDocument(
            stage="chunk", clock=parts.clock, generation=None if parts.live else parts.generation.name
        ),
    )


def embed(parts: Parts) -> Stage:
    """Make vectors."""
    encoder = parts.encoder(parts.generation, "ingest")
    chunks_per_s = parts.settings.encoder_chunks_per_s
    if chunks_per_s:
        encoder = PacedEncoder(encoder=encoder, chunks_per_s=chunks_per_s, on_paced=telemetry.ENCODER_PACED_SECONDS.inc)
    return Stage(
        name="embed",
        group=f"rag.embed.{parts.generation.name}",
        topic=CHUNKS.named(parts.generation.chunker),
        handler=Embed(
            encoder=encoder,
            generation=parts.chunks_and_vectors,
            documents=parts.documents,
            name=parts.generation.name,
            clock=parts.clock,
            on_spared=telemetry.CHUNKS_SPARED.inc,
        ),
        slots=16,
        # the largest document has 20,000 chunks, and two old cores encode 30 in a second
        deadline_s=1200 + (20_000 / chunks_per_s if chunks_per_s else 0),
        on_dead_letter=FailedDocument(stage="embed", clock=parts.clock, generation=parts.generation.name),
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
        on_dead_letter=FailedDocument(stage="index", clock=parts.clock, generation=parts.generation.name),
    )


def index_opensearch(parts: Parts) -> Stage:
    """Write the generation to OpenSearch."""
    index = parts.opensearch_index(parts.generation)
    versions = PostgresSunk(pool=parts.pool, generation=parts.generation.name)

    async def purge() -> None:
        n = await index.purge()
        if n:
            _log.info("delete_markers_purged", n=n)

    async def keep() -> None:
        found = await parts.catalogue.find(parts.generation.name)
        # one that is being dropped must not come back
        if found is not None and found.state in ("following", "paused"):
            await _make_index(index, versions)

    parts.duties.append(Duty(name="keep", round=keep, every_s=_KEEP_S, woken=asyncio.Event()))
    parts.duties.append(Duty(name="purge", round=purge, every_s=_PURGE_S, woken=asyncio.Event()))
    return Stage(
        name="index_opensearch",
        group=f"rag.index.{parts.generation.name}.opensearch",
        topic=EMBEDDINGS.named(parts.generation.name),
        handler=IndexOpensearch(sink=index, versions=versions),
        slots=8,
        # 20,000 chunks enter the vector index
        deadline_s=900,
        on_dead_letter=FailedDocument(stage="index_opensearch", clock=parts.clock, generation=parts.generation.name),
        needs=(OPENSEARCH, "postgres"),
    )


def lifecycle(parts: Parts) -> Stage:
    """Project the status of documents."""
    return Stage(
        name="lifecycle",
        group="rag.lifecycle",
        topic=LIFECYCLE,
        handler=Project(status=PostgresStatus(pool=parts.pool, alias=parts.settings.generation_alias)),
        slots=8,
        deadline_s=30,
    )


def retrieve(parts: Parts) -> Stage:
    """Find evidence."""
    slot = parts.resources.enter_context(own_slot(parts.settings.lexical_dir))
    views = LexicalViews(folder=slot, settings=parts.settings, blobs=parts.blobs, clock=parts.clock)
    searches = OpenGenerations(
        catalogue=parts.catalogue,
        open=lambda generation: _opened(parts, views, generation),
        woken=parts.control().woken("generations"),
        gone=views.forget_all_but,
    )
    parts.searches.append(searches)
    if parts.settings.opensearch_url:
        # for the probe: a generation that is searched there may be made while this process runs
        parts.opensearch_client()

    async def exists(name: str) -> bool:
        found = await parts.catalogue.find(name)
        return found is not None and found.state in ("following", "paused")

    _judge(parts, exists, searches.search)
    return Stage(
        name="retrieve",
        group="rag.retrieve",
        topic=QUERIES,
        handler=ByGeneration(handler=searches.search),
        slots=16,
        deadline_s=30,
        retry_max_s=20,
        on_dead_letter=FailedQuestion(questions=parts.questions("retrieve")),
    )


def _judge(
    parts: Parts, exists: Callable[[str], Awaitable[bool]], search: Callable[[str], Awaitable[Retrieve]]
) -> None:
    """Let this process carry out gates and shadows, over the generations that it searches."""
    bench = HandlerBench(
        exists=exists, search=search, clock=parts.clock, context_tokens=parts.settings.llm_context_tokens
    )
    gates = RunGates(gates=PostgresGates(pool=parts.pool), bench=bench)
    parts.duties.append(Duty(name="gate", round=gates.round, every_s=_DUTY_S, woken=parts.control().woken("gate")))

    async def judge(base: str, candidate: str) -> Judge:
        first, second = await parts.catalogue.find(base), await parts.catalogue.find(candidate)
        if first is None or second is None:
            raise Unprocessable("no_generation", f"{base!r} and {candidate!r} are not both there any more")
        encoder = await asyncio.to_thread(parts.encoder, first, "query")
        return Judge(encoder=encoder, shared=first.embedder == second.embedder)

    shadows = RunShadows(
        shadows=_shadows(parts),
        bench=ScoredBench(bench=bench, judge=judge),
        counted=lambda outcome, n: telemetry.SHADOWS.labels(outcome).inc(n),
    )
    parts.duties.append(Duty(name="shadow", round=shadows.round, every_s=_DUTY_S, woken=asyncio.Event()))


def _shadows(parts: Parts) -> PostgresShadows:
    return PostgresShadows(pool=parts.pool, alias=parts.settings.generation_alias)


@asynccontextmanager
async def _opened(parts: Parts, views: LexicalViews, generation: Generation) -> AsyncIterator[Opened]:
    """Make a generation searchable."""
    encoder = await asyncio.to_thread(parts.encoder, generation, "query")
    worker = f"{socket.gethostname()}:{views.folder.resolve()}"
    async with _rankers(parts, views, generation) as rankers:
        search = Retrieve(
            vectors=CachedVectors(
                encoder=encoder,
                cache=parts.valkey,
                count=lambda source: telemetry.QUESTION_VECTORS.labels(source).inc(),
            ),
            dense=rankers.dense,
            lexical=rankers.lexical,
            passages=PostgresPassages(pool=parts.pool, generation=generation.name, dim=generation.dim),
            clock=parts.clock,
            dispensable=rankers.dispensable,
            on_without=lambda ranker: telemetry.SEARCHES_WITHOUT.labels(ranker).inc(),
        )
        reports = PostgresViewReports(pool=parts.pool, worker=worker, generation=generation.name)
        compare = CompareView(
            views=rankers.views,
            documents=PostgresServed(pool=parts.pool, generation=generation.name),
            reports=reports,
        )
        woken = parts.control().woken("verify")
        seen_at_once = asyncio.Event()
        seen_at_once.set()
        yield Opened(
            search=search,
            beside=(
                *rankers.beside,
                Duty(name="view", round=compare.round, every_s=_DUTY_S, woken=woken).run(),
                *(
                    Duty(
                        name="view_rebuild",
                        round=RebuildView(view=view, rebuilds=reports).round,
                        every_s=_DUTY_S,
                        woken=asyncio.Event(),
                    ).run()
                    for view in rankers.renewable
                ),
                Duty(name="view_seen", round=compare.seen, every_s=_VIEW_SEEN_S, woken=seen_at_once).run(),
            ),
        )


@dataclass(frozen=True, kw_only=True)
class _Rankers:
    """What proposes chunks of a generation. `views` are what it searches and can compare; `renewable` are its own."""

    dense: DenseRanker
    lexical: LexicalRanker
    views: Sequence[OwnView]
    renewable: Sequence[RenewableView] = ()
    beside: Sequence[Coroutine[Any, Any, None]] = ()
    dispensable: frozenset[str] = frozenset()


@asynccontextmanager
async def _rankers(parts: Parts, views: LexicalViews, generation: Generation) -> AsyncIterator[_Rankers]:
    """Open the rankers of a generation, each in the store that the generation names."""
    dense = PgvectorRanker(pool=parts.pool, generation=generation.name)
    if not generation.in_opensearch:
        async with views.following(generation.chunker) as view:
            yield _Rankers(dense=dense, lexical=view, views=[view], renewable=[view], beside=[view.ended()])
        return
    from streams.adapters.opensearch_rankers import OpensearchLexical, OpensearchVectors, new_breaker
    from streams.adapters.opensearch_view import OpensearchView

    index = parts.opensearch_index(generation)
    group, topic = f"rag.index.{generation.name}.opensearch", EMBEDDINGS.named(generation.name).name
    shared = OpensearchView(index=index, hop=KafkaHop(admin=Admin(parts.settings), group=group, topic=topic))
    guard = new_breaker()
    near = (
        OpensearchVectors(client=index.client, index=index.name, breaker=guard)
        if generation.vectors == OPENSEARCH
        else dense
    )
    if generation.lexical == OPENSEARCH:
        words = OpensearchLexical(client=index.client, index=index.name, breaker=guard)
        found = frozenset({DENSE, LEXICAL} if near is not dense else {LEXICAL})
        yield _Rankers(dense=near, lexical=words, views=[shared], dispensable=found)
        return
    async with views.following(generation.chunker) as view:
        yield _Rankers(
            dense=near,
            lexical=view,
            views=[view, shared],
            renewable=[view],
            beside=[view.ended()],
            dispensable=frozenset({DENSE}),
        )


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
    handlers: dict[str, Score] = {}

    async def handler(name: str) -> Score | None:
        if name not in handlers:
            generation = await parts.catalogue.find(name)
            if generation is None or generation.state not in ("following", "paused"):
                # what it found is gone, and no answer can be held against it
                return None
            handlers[name] = Score(
                passages=PostgresPassages(pool=parts.pool, generation=name, dim=generation.dim),
                encoder=LazyEncoder(
                    name=generation.embedder,
                    dim=generation.dim,
                    load=lambda: parts.encoder(generation, "score"),
                ),
                scores=PostgresScores(pool=parts.pool),
                clock=parts.clock,
            )
        return handlers[name]

    return Stage(
        name="score",
        group="rag.score",
        topic=RESULTS,
        handler=ByGeneration(handler=handler),
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
    drift = PrometheusDrift()
    verify = Verify(
        verifications=PostgresVerifications(pool=parts.pool),
        subjects=lambda: _subjects(parts),
        sender=parts.sender,
        observer=drift,
    )
    parts.duties.append(Duty(name="verify", round=verify.round, every_s=_DUTY_S, woken=parts.control().woken("verify")))
    admin = Admin(parts.settings)
    carry_out = CarryOut(
        rows=PostgresGenerations(pool=parts.pool, alias=parts.settings.generation_alias),
        belongings=_belongings(parts, admin),
        dimension=lambda embedder: asyncio.to_thread(parts.encoders.dimension, embedder),
        check_chunker=parse_chunker,
        moved=lambda: _nudge(parts, "generations"),
        follow=lambda name: _followed(parts, admin, name),
    )
    parts.duties.append(
        Duty(name="generations", round=carry_out.round, every_s=_DUTY_S, woken=parts.control().woken("generations"))
    )
    rebuild = RebuildSinks(rebuilds=PostgresRebuilds(pool=parts.pool), find=lambda name: _rebuilt(parts, name))
    parts.duties.append(
        Duty(name="rebuild", round=rebuild.round, every_s=_DUTY_S, woken=parts.control().woken("rebuild"))
    )
    shadows = ReportShadows(shadows=_shadows(parts))
    parts.duties.append(Duty(name="shadows", round=shadows.round, every_s=_COUNT_S, woken=asyncio.Event()))
    overdue = EachGeneration(
        catalogue=parts.catalogue,
        make=lambda generation: _overdue(parts, admin, drift, generation).round,
        forget=drift.forgotten,
    )
    parts.duties.append(
        Duty(
            name="overdue",
            round=overdue.round,
            every_s=parts.settings.overdue_interval_ms / 1000,
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


def _belongings(parts: Parts, admin: Admin) -> Sequence[Belongings]:
    topics = KafkaBelongings(admin=admin)
    if not parts.settings.opensearch_url:
        return [topics, NoOpensearch()]
    from streams.adapters.opensearch_belongings import OpensearchBelongings

    return [topics, OpensearchBelongings(index=parts.opensearch_index)]


async def _nudge(parts: Parts, kind: str) -> None:
    """Have every process look into Postgres."""
    record = await encode(
        ControlSent(kind=kind, tenant=""), key=kind.encode(), source="/headrace/operator", blobs=parts.blobs
    )
    await acknowledged(
        parts.sender.send(CONTROL.name, key=record.key, value=record.value, headers=dict(record.headers))
    )


async def _rebuilt(parts: Parts, name: str) -> RebuildSubject | None:
    generation = await parts.catalogue.find(name)
    if generation is None or generation.state not in ("following", "paused"):
        return None

    def index() -> Rebuilt:
        from streams.adapters.opensearch_rebuild import RebuiltIndex

        versions = PostgresSunk(pool=parts.pool, generation=name)
        return RebuiltIndex(pool=parts.pool, index=parts.opensearch_index(generation), versions=versions)

    table = PostgresGeneration(pool=parts.pool, generation=name, dim=generation.dim)
    return RebuildSubject(
        embeddings=KafkaEmbeddings(settings=parts.settings, blobs=parts.blobs, generation=name),
        sinks={"pgvector": lambda: RebuiltTable(generation=table), "opensearch": index},
        views=PostgresRebuiltViews(pool=parts.pool, generation=name),
    )


async def _subjects(parts: Parts) -> Sequence[Subject]:
    def subject(generation: Generation) -> Subject:
        log = KafkaDrift(
            settings=parts.settings,
            blobs=parts.blobs,
            chunker=generation.chunker,
            generation=generation.name,
            stages=_ingest_lane(generation),
        )
        return Subject(
            generation=generation.name,
            open_log=lambda: nullcontext(log),
            tables=PostgresDrift(pool=parts.pool, generation=generation.name),
            views=PostgresViews(pool=parts.pool, generation=generation.name),
        )

    return [subject(each) for each in await parts.catalogue.held()]


async def _followed(parts: Parts, admin: Admin, name: str) -> Walk:
    generation = await parts.catalogue.find(name)
    if generation is None:
        raise Transient(f"index generation {name!r} is gone", part="postgres")
    lane = [*_ingest_lane(generation)]
    if generation.in_opensearch:
        lane.append((f"rag.index.{name}.opensearch", EMBEDDINGS.named(name).name))
    return _walk(parts, admin, lane)


def _walk(parts: Parts, admin: Admin, lane: Sequence[tuple[str, str]]) -> Walk:
    hops = [KafkaHop(admin=admin, group=group, topic=topic) for group, topic in lane]
    return Walk(hops=hops, clock=parts.clock)


def _overdue(parts: Parts, admin: Admin, observer: PrometheusDrift, generation: Generation) -> MendOverdue:
    return MendOverdue(
        generation=generation.name,
        documents=PostgresOverdue(pool=parts.pool, generation=generation.name),
        walk=_walk(parts, admin, _ingest_lane(generation)),
        sender=parts.sender,
        clock=parts.clock,
        observer=observer,
        after_s=parts.settings.overdue_after_ms / 1000,
        at_once_max=parts.settings.overdue_reissues_max,
    )


def _ingest_lane(generation: Generation) -> Sequence[tuple[str, str]]:
    """Groups and topics of the stages between acceptance and index, in the order of the flow."""
    chunker, name = generation.chunker, generation.name
    return (
        ("rag.intake", INGEST.name),
        (f"rag.chunk.{chunker}", DOCUMENTS.name),
        (f"rag.embed.{name}", CHUNKS.named(chunker).name),
        (f"rag.index.{name}", EMBEDDINGS.named(name).name),
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
        stages = [_watched(builders[name](parts)) for name in names if _has_work(parts, name)]
        if not settings.generation and not _OF_A_GENERATION.isdisjoint(names):
            parts.duties.append(_follow_alias(parts))
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
        beside: list[Coroutine[Any, Any, None]] = [searches.run() for searches in parts.searches]
        beside += [feed.run() for feed in parts.feeds]
        return await _beside(working, beside + [duty.run() for duty in parts.duties])


def _has_work(parts: Parts, stage: str) -> bool:
    """Tell whether a stage has anything to do; a worker without any waits for another generation to answer."""
    return stage != "index_opensearch" or parts.generation.in_opensearch


def _follow_alias(parts: Parts) -> Duty:
    """End this process in good order once another generation answers; whoever keeps it starts it again, for that."""

    async def look() -> None:
        serving = await parts.catalogue.serving()
        if serving != parts.generation.name:
            _log.warning("another_generation_answers", generation=serving, instead_of=parts.generation.name)
            os.kill(os.getpid(), signal.SIGTERM)
            # a second signal would not wait for what is in hand
            await asyncio.Event().wait()

    return Duty(name="alias", round=look, every_s=_DUTY_S, woken=parts.control().woken("generations"))


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
        await asyncio.gather(*(searches.ready() for searches in parts.searches))
    if stage.name in ("intake", "index"):
        # they write versions into the table
        await _not_behind(parts)
    if stage.name == "index_opensearch":
        versions = PostgresSunk(pool=parts.pool, generation=parts.generation.name)
        await _has_index(parts.opensearch_index(parts.generation), versions)


async def _has_index(index: "OpensearchIndex", versions: SunkVersions) -> None:
    """Make the index once OpenSearch answers, unless it is there."""
    while True:
        try:
            return await _make_index(index, versions)
        except Transient as error:
            _log.warning("opensearch_index_not_looked_for", error=str(error))
            await asyncio.sleep(_COMPARE_AGAIN_S)


async def _make_index(index: "OpensearchIndex", versions: SunkVersions) -> None:
    """Make the index unless it is there; an empty one covers nothing."""
    if await index.ensure():
        n_lost = await versions.forget()
        _log.info("opensearch_index_made", index=index.name)
        if n_lost:
            # its group has read what makes it whole again
            _log.error("opensearch_index_lost", index=index.name, n_documents=n_lost)


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
        catalogue = PostgresCatalogue(pool=pool, alias=settings.generation_alias)
        serving, generation = await _generation(catalogue, settings.generation)
        encoders = Encoders(settings=settings)
        resources.push_async_callback(encoders.close)
        yield Parts(
            settings=settings,
            sender=sender,
            pool=pool,
            blobs=ObjectStore(folder=FolderBlobs(settings.objects_dir)),
            valkey=await resources.enter_async_context(connected(settings)),
            generation=generation,
            live=generation.name == serving,
            catalogue=catalogue,
            clock=SystemClock(),
            resources=resources,
            encoders=encoders,
        )


@asynccontextmanager
async def _pool(settings: WorkerSettings) -> AsyncIterator["asyncpg.Pool[Any]"]:
    # terminate, not close: a handler that was cancelled must not hold up the end
    pool = await open_pool(settings)
    try:
        yield pool
    finally:
        pool.terminate()


async def _generation(catalogue: PostgresCatalogue, name: str) -> tuple[str, Generation]:
    """Return which generation answers, and the one of this process, waiting for a database that is still starting."""
    deadline = time.monotonic() + _DATABASE_WAIT_S
    while True:
        try:
            serving = await catalogue.serving()
            found = await catalogue.find(name or serving)
            break
        except Transient as error:
            if time.monotonic() > deadline:
                raise Fatal(f"cannot read the index generation from Postgres: {error}") from error
            await asyncio.sleep(0.5)
    if found is None or found.state not in ("following", "paused"):
        raise Fatal(
            f"there is no index generation {name!r} that holds documents; HEADRACE_GENERATION names one of "
            "`headrace generation list`, or none for the one that answers"
        )
    return serving, found
