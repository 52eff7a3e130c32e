"""One stage as one Faust App: who subscribes, hands records to lanes, and acknowledges what is done."""

import asyncio
import hashlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import faust
import structlog
from faust.app.base import BootStrategy
from faust.types import TP
from yarl import URL

from backbone.kafka import Admin, ssl_context
from backbone.settings import KafkaSettings
from schemas import codec
from streams.runtime.consumer import SafeConsumer, SafeTransport
from streams.runtime.holders import Holders
from streams.runtime.isolation import WINDOW_MIN, Isolation, Solo
from streams.runtime.lanes import Claims, Lanes, Slots, Turn
from streams.runtime.observer import Sample
from streams.runtime.record import Origin
from streams.runtime.runner import Runner, Source

_BUFFERED_RECORDS = 64
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How patient a group is with its members, seconds.

    Attributes:
        session_s: without a heartbeat for this long, a member counts as dead and its partitions go to others.
        rebalance_s: how long a rebalance waits for a member that is alive.
        drain_s: how long running handlers may go on when partitions are revoked or the process stops, before they are
            cancelled; below `rebalance_s`. Those whose record is claimed are cancelled only when the process stops.
    """

    session_s: float = 10.0
    rebalance_s: float = 20.0
    drain_s: float = 8.0

    def __post_init__(self) -> None:
        if not 0 < self.drain_s < self.rebalance_s:
            raise ValueError(f"drain_s {self.drain_s!r} must be above 0 and below rebalance_s {self.rebalance_s!r}")


class _NoProducer(BootStrategy):
    """Starts Faust without its producer, which is not idempotent and which nothing here uses."""

    enable_kafka_producer = False


class _App(faust.App):
    BootStrategy = _NoProducer

    def _create_directories(self) -> None:
        """Make no folders for tables, of which there are none."""


def broker_options(settings: KafkaSettings) -> dict[str, Any]:
    """Return what a Faust App needs to reach the brokers."""
    context = ssl_context(settings)
    options: dict[str, Any] = {
        "broker": [URL(f"kafka://{host.strip()}") for host in settings.kafka_bootstrap.split(",")]
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        options["broker_credentials"] = faust.SASLCredentials(
            username=settings.kafka_username,
            password=settings.kafka_password.get_secret_value(),
            mechanism=settings.kafka_sasl_mechanism,
            ssl_context=context,
        )
    elif context is not None:
        options["broker_credentials"] = context
    return options


class StageApp:
    """The running form of a stage.

    Attributes:
        stage: what runs.
        faust: the Faust App.
        failed: gets the exception that no record can outlive; the process must end then.
        assigned: set once partitions were assigned for the first time.
    """

    def __init__(
        self,
        runner: Runner,
        settings: KafkaSettings,
        admin: Admin,
        timing: Timing,
        consumer: type[SafeConsumer],
        holders: Holders | None = None,
    ) -> None:
        self.stage = runner.stage
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.assigned = asyncio.Event()
        self._runner = runner
        self._admin = admin
        self._timing = timing
        self._topic_ids: dict[str, str] = {}
        self._compacted = {topic.name: topic.compacted for topic in self.stage.topics}
        self._claims = Claims(self.stage.slots)
        self._lanes = Lanes(self._claims, self.failed)
        self._isolation: Isolation | None = None
        if holders is not None:
            self._isolation = Isolation(
                holders=holders,
                gate=runner.gate,
                group=self.stage.group,
                window=max(self.stage.slots, WINDOW_MIN),
                lost=lambda: self.consumer.begin_anew(),
            )
        self.faust = self._make_app(settings, consumer)

    def _make_app(self, settings: KafkaSettings, consumer: type[SafeConsumer]) -> faust.App:
        app = _App(
            self.stage.group,
            **broker_options(settings),
            value_serializer="raw",
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            table_standby_replicas=0,
            consumer_auto_offset_reset="earliest",
            broker_commit_interval=0.5,
            stream_buffer_maxsize=_BUFFERED_RECORDS,
            stream_wait_empty=True,
            broker_max_poll_records=200,
            broker_session_timeout=self._timing.session_s,
            broker_heartbeat_interval=1,
            broker_rebalance_timeout=self._timing.rebalance_s,
            broker_request_timeout=max(20.0, self._timing.session_s),
        )
        app.transport = SafeTransport(
            app.conf.broker_consumer, app, consumer=consumer, flow=self, buffer_bytes=self.stage.buffer_bytes
        )
        source = app.topic(*self.stage.topic_names, key_type=bytes, value_type=bytes, value_serializer="raw")

        async def consume(stream: Any) -> None:
            async for event in stream.noack().events():
                await self._submit(event)

        app.agent(source, name=f"{self.stage.group}.consume")(consume)
        app.finalize()
        return app

    @property
    def consumer(self) -> SafeConsumer:
        """The App's consumer."""
        consumer = self.faust.consumer
        assert isinstance(consumer, SafeConsumer)
        return consumer

    @property
    def slots(self) -> Slots:
        """Room for handlers."""
        return self._claims.slots

    async def drain(self) -> None:
        """Let what runs end, in bounded time; drop what waits; leave alone whose record is claimed."""
        if not await self._lanes.drain(self._timing.drain_s):
            _log.warning("handlers_cancelled", stage=self.stage.name, after_s=self._timing.drain_s)
        if self._isolation is not None:
            await self._isolation.end()

    async def restart(self) -> None:
        """Begin with empty lanes, as all that is not committed comes again."""
        await self._lanes.drain(0)
        self._topic_ids = await self._admin.topic_ids(self.stage.topic_names)
        self._lanes = Lanes(self._claims, self.failed)
        self.assigned.set()

    async def begin(self, positions: Mapping[TP, int]) -> None:
        """Learn whether those that held the partitions before died of a record."""
        if self._isolation is None:
            return
        ids = {tp: (self._topic_ids[tp.topic], tp.partition) for tp in positions}
        tps = {place: tp for tp, place in ids.items()}

        async def ends(places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
            found = await self.consumer.ends(tps[place] for place in places)
            return {ids[tp]: end for tp, end in found.items()}

        await self._isolation.begin({ids[tp]: position for tp, position in positions.items()}, ends)

    def keep_notes(self) -> None:
        """Let it look as if this worker had died: it ends because a handler does not."""
        if self._isolation is not None:
            self._isolation.keep()

    async def stop(self) -> None:
        """Leave the group, and let all handlers end in bounded time."""
        await asyncio.gather(self.faust.stop(), self._end_claims())

    async def _end_claims(self) -> None:
        if not await self._claims.end(self._timing.drain_s):
            _log.warning("claimed_handlers_cancelled", stage=self.stage.name, after_s=self._timing.drain_s)

    def sample(self) -> Sample:
        """Return the state of the stage."""
        ledgers = list(self.consumer.ledgers().values())
        oldest = [began for _, began in filter(None, (ledger.oldest() for ledger in ledgers))]
        return Sample(
            group=self.stage.group,
            lag=self.consumer.lag(),
            in_flight=sum(ledger.n_unfinished for ledger in ledgers),
            in_flight_bytes=self.consumer.in_flight_bytes,
            oldest_unfinished_s=time.monotonic() - min(oldest) if oldest else 0.0,
            gaps=sum(ledger.gaps for ledger in ledgers),
            repeats=sum(ledger.repeats for ledger in ledgers),
        )

    def _judged(self, source: Source, solo: Solo | None) -> Solo | None:
        if self._isolation is None or (solo is None and self._isolation.quiet):
            return None
        origin = source.origin
        identity = _identity(source, compacted=self._compacted[origin.topic])
        return self._isolation.judged(solo, origin.topic_id, origin.partition, origin.offset, identity)

    async def _submit(self, event: Any) -> None:
        message = event.message
        if message.generation_id != self.faust.consumer_generation_id:
            return
        origin = Origin(
            topic=message.topic,
            topic_id=self._topic_ids[message.topic],
            partition=message.partition,
            offset=message.offset,
        )
        source = Source(
            key=message.key,
            value=message.value,
            headers=tuple(message.headers or ()),
            origin=origin,
            timestamp_ms=round(message.timestamp * 1000),
        )

        solo = None
        if self._isolation is not None:
            solo = self._isolation.of(origin.topic_id, origin.partition, origin.offset)

        async def job(turn: Turn) -> None:
            await self._runner.run(source, turn, event.ack, self._judged(source, solo))

        await self._lanes.submit(message.key, job)


def _identity(source: Source, *, compacted: bool) -> bytes:
    """Return what a record is known by wherever it stands: where the last one of a key counts, its key and version, for
    the value may differ in the last digits; else all of it. What a person had done again is another one."""
    headers = codec.headers_of(source.headers)
    version = codec.version_of(headers) if compacted else None
    what = source.value if version is None else str(version).encode()
    again = (headers.get(name, b"") for name in (codec.REISSUE_HEADER, codec.ORIGIN_HEADER))
    parts = (source.key or b"", what or b"", *again)
    return hashlib.sha256(b"".join(len(part).to_bytes(8) + part for part in parts)).digest()
