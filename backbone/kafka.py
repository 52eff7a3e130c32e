"""Connections to Kafka: client settings, a producer with awaited deliveries, administration, a reader of partitions."""

import asyncio
import functools
import queue
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future as ThreadFuture
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from backbone.settings import KafkaSettings
from schemas.topics import Topic

RECORD_MAX_BYTES = 2 * 1024 * 1024
"""Largest record that a topic takes: an inline value of 1 MiB that does not compress, and its headers."""
DEAD_LETTER_MAX_BYTES = 3 * 1024 * 1024
"""Largest record that a dead-letter topic takes: any record of any topic, and the headers that say why."""

_DELIVERY_TIMEOUT_MS = 30_000
_SILENCE_MS = 10_000
_REQUEST_TIMEOUT_S = 15.0
_CHECK_TIMEOUT_S = 3.0
_PAUSE_S = 0.1
_ANY_PARTITION = -1
_STARTING = frozenset(
    {
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
    }
)
_log = structlog.get_logger(__name__)

T = TypeVar("T")
Headers = Sequence[tuple[str, bytes | None]]


# --- settings of the clients ----------------------------------------------------------------------


def client_config(settings: KafkaSettings) -> dict[str, Any]:
    """Return what every confluent-kafka client needs to reach the brokers."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "security.protocol": settings.kafka_security_protocol,
        "log_level": 0,
        "allow.auto.create.topics": False,
        # small requests must not wait for the acknowledgement of the one before
        "socket.nagle.disable": True,
        # a broker that says nothing for so long is given up: another one leads by then
        "socket.timeout.ms": _SILENCE_MS,
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        config["sasl.mechanism"] = settings.kafka_sasl_mechanism
        config["sasl.username"] = settings.kafka_username
        config["sasl.password"] = settings.kafka_password.get_secret_value()
    if settings.kafka_security_protocol.endswith("SSL") and settings.kafka_ca_file is not None:
        config["ssl.ca.location"] = str(settings.kafka_ca_file)
    return config


def ssl_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    """Return the TLS settings for clients that want Python's own; None where the connection is not encrypted."""
    if not settings.kafka_security_protocol.endswith("SSL"):
        return None
    return ssl.create_default_context(cafile=str(settings.kafka_ca_file) if settings.kafka_ca_file else None)


# --- producer -------------------------------------------------------------------------------------


class PublishFailed(Exception):
    """Kafka did not acknowledge a record; it may stand in the log all the same.

    Attributes:
        fatal: the producer is broken for good; only a new process can send.
    """

    def __init__(self, message: str, *, fatal: bool = False) -> None:
        super().__init__(message)
        self.fatal = fatal


@dataclass(frozen=True, slots=True)
class Delivered:
    """Where an acknowledged record stands."""

    topic: str
    partition: int
    offset: int


class Publisher:
    """An idempotent producer: records of one partition keep the order of the calls, also over retries.

    Use it as an async context manager in the loop that awaits the deliveries. Leaving waits for what is on its way.
    Bounded: at most 64 MiB or 100,000 records wait; a record beyond that fails at once.

    Args:
        settings: how to reach Kafka.
        on_broken: called once, in another thread, when no record can be sent any more and only a new process helps.
    """

    def __init__(self, settings: KafkaSettings, *, on_broken: Callable[[], None] = lambda: None) -> None:
        self._config = client_config(settings) | {
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 0,
            "compression.type": "zstd",
            # As Java clients place keys, so that one document stays in one partition whoever sends it.
            "partitioner": "murmur2_random",
            "message.max.bytes": DEAD_LETTER_MAX_BYTES,
            "delivery.timeout.ms": _DELIVERY_TIMEOUT_MS,
            "request.timeout.ms": _SILENCE_MS,
            "topic.metadata.propagation.max.ms": 5_000,
            "queue.buffering.max.kbytes": 64 * 1024,
            "queue.buffering.max.messages": 100_000,
            "error_cb": self._on_error,
        }
        self._fatal: str | None = None
        self._on_broken = on_broken
        self._closing = threading.Event()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._producer = Producer(self._config)
        self._poller = threading.Thread(target=self._poll, name="kafka-publisher", daemon=True)
        self._poller.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unsent = await asyncio.to_thread(self._producer.flush, _DELIVERY_TIMEOUT_MS / 1000)
        if unsent:
            _log.error("closing_with_records_not_acknowledged", n_records=unsent)
        self._closing.set()
        await asyncio.to_thread(self._poller.join)

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | Mapping[str, bytes | None] = (),
        partition: int | None = None,
    ) -> asyncio.Future[Delivered]:
        """Send a record; the future is done when Kafka has acknowledged it.

        Args:
            topic: name of an existing topic.
            key: decides the partition where `partition` is None.
            value: None is a tombstone.
            headers: in their order; a name may come twice.
            partition: where to, explicitly.

        Returns:
            A future of the record's place. It fails with PublishFailed.
        """
        delivered: asyncio.Future[Delivered] = self._loop.create_future()

        def on_delivery(error: KafkaError | None, message: Any) -> None:
            self._loop.call_soon_threadsafe(_settle, delivered, error, message)

        pairs: list[Any] = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        place = _ANY_PARTITION if partition is None else partition
        try:
            self._producer.produce(topic, value, key, place, on_delivery=on_delivery, headers=pairs)
        except BufferError:
            delivered.set_exception(PublishFailed(f"topic {topic!r}: too many records wait to be sent; try again"))
        except KafkaException as error:
            fatal = self._fatal is not None or error.args[0].fatal()
            delivered.set_exception(PublishFailed(f"topic {topic!r}: {error.args[0].str()}", fatal=fatal))
        return delivered

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(0.2)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = error.str()
            _log.critical("producer_broken", error=error.str())
            self._on_broken()
        else:
            _log.warning("producer_trouble", error=error.str())


def _settle(delivered: "asyncio.Future[Delivered]", error: KafkaError | None, message: Any) -> None:
    if delivered.done():
        return
    if error is not None:
        _log.warning("record_not_acknowledged", topic=message.topic(), error=error.str())
        delivered.set_exception(PublishFailed(f"topic {message.topic()!r}: {error.str()}", fatal=error.fatal()))
        # logged above; who sent it may have stopped waiting for it
        delivered.exception()
    else:
        delivered.set_result(Delivered(message.topic(), message.partition(), message.offset()))


# --- administration -------------------------------------------------------------------------------


class MissingTopic(LookupError):
    """A topic does not exist in Kafka."""


class GroupInUse(Exception):
    """A consumer group has members, so that nobody else may move its offsets; the text names them."""


TOMBSTONES_KEPT: Final = timedelta(days=30)
"""How long compacted topics keep a deleted key: who has read nothing for longer may miss that it is gone."""


def topic_config(topic: Topic, replication_factor: int = 1) -> dict[str, str]:
    """Return Kafka's settings of a topic of the table.

    With three replicas or more, a record is acknowledged when two have it: one broker may be lost, or be away.
    """
    largest = DEAD_LETTER_MAX_BYTES if topic.event is None else RECORD_MAX_BYTES
    config = {"max.message.bytes": str(largest), "compression.type": "producer"}
    if replication_factor >= 3:
        config["min.insync.replicas"] = "2"
    if topic.compacted:
        return config | {
            "cleanup.policy": "compact",
            "delete.retention.ms": str(_ms(TOMBSTONES_KEPT)),
            "max.compaction.lag.ms": str(_ms(timedelta(days=7))),
        }
    return config | {"cleanup.policy": "delete", "retention.ms": str(_ms(topic.retention))}


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)


class Admin:
    """What the product asks of Kafka beside records. Methods raise KafkaException when the brokers are away."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._config = client_config(settings)
        self._client = AdminClient(self._config)
        self._replication = settings.kafka_replication_factor

    async def ensure_topics(
        self, topics: Iterable[Topic], overrides: Mapping[str, Mapping[str, str]] | None = None
    ) -> list[str]:
        """Create the topics that do not exist, and wait until brokers know them; those that do exist stay as they are.

        Args:
            topics: rows of the topic table, templates filled.
            overrides: Kafka settings by topic name, as `{"rag.ingest.v1": {"retention.ms": "60000"}}`.

        Returns:
            Names of the topics created.
        """
        new = [
            NewTopic(
                topic.name,
                num_partitions=topic.partitions,
                replication_factor=self._replication,
                config=topic_config(topic, self._replication) | dict((overrides or {}).get(topic.name, {})),
            )
            for topic in topics
        ]
        created = []
        for name, made in self._client.create_topics(new, request_timeout=_REQUEST_TIMEOUT_S).items():
            try:
                await _result(made)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
            else:
                created.append(name)
        async with asyncio.timeout(_REQUEST_TIMEOUT_S):
            for name in created:
                await self._until_visible(name)
        return created

    async def topic_ids(self, names: Iterable[str]) -> dict[str, str]:
        """Return Kafka's id of each topic (a re-created topic has another).

        Raises:
            MissingTopic: one does not exist.
        """
        described = self._client.describe_topics(TopicCollection(list(names)), request_timeout=_REQUEST_TIMEOUT_S)
        return {name: str((await self._described(name, future)).topic_id) for name, future in described.items()}

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """Return, per partition, the offset that the next record will have.

        Raises:
            MissingTopic: it does not exist.
        """
        return await self._offsets(topic, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    async def start_offsets(self, topic: str) -> dict[int, int]:
        """Return, per partition, the lowest offset that is kept.

        Raises:
            MissingTopic: it does not exist.
        """
        return await self._offsets(topic, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    async def check(self) -> None:
        """Return when a broker answers.

        Raises:
            KafkaException: none does within 3 s.
        """
        described = self._client.describe_cluster(request_timeout=_CHECK_TIMEOUT_S)
        await _result(described)

    async def offset_at(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        """Return the lowest offset of a record that was produced then or later; None: there is none."""
        place = TopicPartition(topic, partition)
        spec = OffsetSpec.for_timestamp(timestamp_ms)
        found = await _patiently(
            lambda: _results(self._client.list_offsets({place: spec}, request_timeout=_REQUEST_TIMEOUT_S))
        )
        (offset,) = found.values()
        return int(offset.offset) if offset.offset >= 0 else None

    async def group_lag(self, group: str, topics: Iterable[str]) -> dict[str, int]:
        """Return, per topic, the number of offsets between what the group has committed and the end.

        A partition without a commit counts from its lowest kept offset. Works for groups without members too.
        """
        lag = {}
        for topic in topics:
            ends, places = await self.end_offsets(topic), await self.group_places(group, topic)
            lag[topic] = sum(max(0, ends[p] - places[p]) for p in ends)
        return lag

    async def group_places(self, group: str, topic: str) -> dict[int, int]:
        """Return, per partition, the offset that the group has committed; where it has none, the lowest kept one."""
        starts = await self.start_offsets(topic)
        committed = await _patiently(functools.partial(asyncio.to_thread, self._committed, group, topic, list(starts)))
        return {p: max(committed[p], start) for p, start in starts.items()}

    async def unclaimed_partitions(self, group: str, topic: str) -> int:
        """Return how many partitions of the topic no member of the group holds (0 while the group is rebalancing)."""
        asked = await _patiently(
            lambda: _results(self._client.describe_consumer_groups([group], request_timeout=_REQUEST_TIMEOUT_S))
        )
        described = asked[group]
        if described.state.name not in ("STABLE", "EMPTY", "DEAD"):
            return 0
        held = {p.partition for m in described.members for p in m.assignment.topic_partitions if p.topic == topic}
        return len(set(await self.end_offsets(topic)) - held)

    async def check_unused(self, group: str) -> None:
        """Check that a group has no members.

        Raises:
            GroupInUse: it has.
        """
        described = await _patiently(
            lambda: _results(self._client.describe_consumer_groups([group], request_timeout=_REQUEST_TIMEOUT_S))
        )
        members = described[group].members
        if members:
            hosts = ", ".join(sorted({member.host for member in members}))
            raise GroupInUse(f"group {group!r} has {len(members)} member(s), at {hosts}")

    async def drop_group(self, group: str) -> None:
        """Forget a group and its offsets; one that does not exist is left so.

        Raises:
            GroupInUse: it has members.
        """
        await self.check_unused(group)
        try:
            await _patiently(
                lambda: _results(self._client.delete_consumer_groups([group], request_timeout=_REQUEST_TIMEOUT_S))
            )
        except KafkaException as error:
            code = error.args[0].code()
            if code == KafkaError.NON_EMPTY_GROUP:
                raise GroupInUse(f"group {group!r} has members") from error
            if code != KafkaError.GROUP_ID_NOT_FOUND:
                raise

    async def drop_topic(self, topic: str) -> None:
        """Delete a topic and its records; one that does not exist is left so."""
        try:
            await _results(self._client.delete_topics([topic], request_timeout=_REQUEST_TIMEOUT_S))
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise

    async def rewind(self, group: str, topic: str, timestamp_ms: int) -> int:
        """Let a group read again what was produced at that time or later; it never skips anything.

        Returns:
            By how many offsets it went back, all partitions together.

        Raises:
            GroupInUse: it has members.
            MissingTopic: the topic does not exist.
        """
        partitions = list(await self.end_offsets(topic))
        await self.check_unused(group)
        return await asyncio.to_thread(self._rewind, group, topic, partitions, timestamp_ms)

    def _rewind(self, group: str, topic: str, partitions: Sequence[int], timestamp_ms: int) -> int:
        consumer = Consumer(self._config | {"group.id": group, "enable.auto.commit": False})
        try:
            committed = consumer.committed([TopicPartition(topic, p) for p in partitions], timeout=_REQUEST_TIMEOUT_S)
            places = [TopicPartition(topic, p, timestamp_ms) for p in partitions]
            found = {p.partition: p.offset for p in consumer.offsets_for_times(places, timeout=_REQUEST_TIMEOUT_S)}
            # negative: nothing was committed, so it begins at the beginning; or nothing was produced since
            back = [p for p in committed if 0 <= found[p.partition] < p.offset]
            if back:
                # brokers refuse it where a member has joined meanwhile
                consumer.commit(
                    offsets=[TopicPartition(topic, p.partition, found[p.partition]) for p in back], asynchronous=False
                )
            return sum(p.offset - found[p.partition] for p in back)
        finally:
            consumer.close()

    def _committed(self, group: str, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """Return what the group has committed; negative where it has nothing."""
        # not list_consumer_group_offsets(): librdkafka 2.16 ends the process (SIGSEGV) when the coordinator is starting
        consumer = Consumer(self._config | {"group.id": group, "enable.auto.commit": False})
        try:
            places = consumer.committed([TopicPartition(topic, p) for p in partitions], timeout=_REQUEST_TIMEOUT_S)
        finally:
            consumer.close()
        return {place.partition: place.offset for place in places}

    async def _until_visible(self, topic: str) -> None:
        while True:
            try:
                await self.topic_ids([topic])
            except MissingTopic:
                await asyncio.sleep(_PAUSE_S)
            else:
                return

    async def _offsets(self, topic: str, spec: OffsetSpec) -> dict[int, int]:
        described = self._client.describe_topics(TopicCollection([topic]), request_timeout=_REQUEST_TIMEOUT_S)
        partitions = (await self._described(topic, described[topic])).partitions
        places = {TopicPartition(topic, p.id): spec for p in partitions}
        found = await _patiently(
            lambda: _results(self._client.list_offsets(places, request_timeout=_REQUEST_TIMEOUT_S))
        )
        return {place.partition: offset.offset for place, offset in found.items()}

    async def _described(self, name: str, future: "ThreadFuture[Any]") -> Any:
        try:
            return await _result(future)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                raise MissingTopic(f"topic {name!r} does not exist; create it with Admin.ensure_topics") from error
            raise


async def _result(future: "ThreadFuture[Any]") -> Any:
    return await asyncio.wrap_future(future)


async def _results(futures: "Mapping[Any, ThreadFuture[Any]]") -> dict[Any, Any]:
    return {about: await _result(future) for about, future in futures.items()}


async def _patiently(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask, and again while a coordinator or a leader is only just starting."""
    deadline = time.monotonic() + _REQUEST_TIMEOUT_S
    while True:
        try:
            return await ask()
        except KafkaException as error:
            if error.args[0].code() not in _STARTING or time.monotonic() > deadline:
                raise
        await asyncio.sleep(_PAUSE_S)


# --- reader of chosen partitions ------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A record that was read. `headers` are in their order; a name may come twice."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AtEnd:
    """The reader has read all that the partition held; `offset` is the next to come. Repeats after every catch-up."""

    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Overtaken:
    """Records before `resumed` were deleted before they were read; reading goes on there."""

    partition: int
    resumed: int


@dataclass(frozen=True, slots=True)
class Last:
    """A place to start: so many records before the end, or the beginning where there are fewer."""

    n_records: int


BEGIN: Final = "begin"
END: Final = "end"
Start = int | Literal["begin", "end"] | Last

_Item = Received | AtEnd | Overtaken

_BUFFERED = 2_000
_BATCH = 500
_POLL_S = 0.05
"""A partition that is added waits for this long at most."""


class PartitionReader:
    """Reads chosen partitions of one topic from given places, for ever, without a consumer group.

    Use it as an async context manager, then iterate. On entry the starting places are fixed: with END, all that is
    produced after `async with` was entered is read. Partitions are added and dropped while it reads; nothing of a
    dropped one is handed out any more, and one that is added again begins where that call says. Bounded: at most 2,000
    records (and 16 MiB in the client) are held for a slow caller. Where the brokers are away it waits and goes on.
    """

    def __init__(self, settings: KafkaSettings, topic: str, starts: Mapping[int, Start]) -> None:
        """Args:
        settings: how to reach Kafka.
        topic: name of an existing topic.
        starts: for each partition to read, the first offset wanted, BEGIN, END, or the Last records.
        """
        self._admin = Admin(settings)
        self._topic = topic
        self._starts = starts
        self._consumer = Consumer(
            client_config(settings)
            | {
                "group.id": "headrace-reader",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": 16 * 1024,
                "fetch.message.max.bytes": DEAD_LETTER_MAX_BYTES,
                # A partition that is added joins the next request for records: this is how long an idle one may take.
                "fetch.wait.max.ms": 100,
            }
        )
        self._closing = threading.Event()
        self._free = threading.Semaphore(_BUFFERED)
        self._arrived: asyncio.Queue[tuple[int, _Item] | BaseException] = asyncio.Queue()
        # A change is made by the reading thread, between two polls: so it knows of each record whether it came before.
        self._changes: queue.SimpleQueue[tuple[int, int, int | None]] = queue.SimpleQueue()
        self._turn = 0
        self._turns: dict[int, int] = {}  # as the caller knows them: records of another turn are stale
        self._turns_read: dict[int, int] = {}  # as the reading thread knows them

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        await self.add(self._starts)
        self._thread = threading.Thread(target=self._read, name=f"kafka-reader {self._topic}", daemon=True)
        self._thread.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._free.release(_BUFFERED)
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._consumer.close)

    async def __aiter__(self) -> AsyncIterator[Received | AtEnd | Overtaken]:
        while True:
            arrived = await self._arrived.get()
            self._free.release()
            if isinstance(arrived, BaseException):
                raise arrived
            turn, item = arrived
            if self._turns.get(item.partition) == turn:
                yield item

    async def add(self, starts: Mapping[int, Start]) -> None:
        """Read these partitions too, each from its start; one that is being read begins anew.

        Raises:
            MissingTopic: the topic or one of the partitions does not exist.
            KafkaException: the brokers are away.
        """
        ends = await self._admin.end_offsets(self._topic)
        missing = sorted(set(starts) - set(ends))
        if missing:
            raise MissingTopic(f"topic {self._topic!r} has partitions 0 to {len(ends) - 1}, not {missing!r}")
        for partition, start in starts.items():
            self._change(partition, _place(start, ends[partition]))

    def drop(self, partition: int) -> None:
        """Read this partition no more; nothing of it is handed out from now on."""
        if self._turns.pop(partition, None) is not None:
            self._changes.put((0, partition, None))

    @property
    def partitions(self) -> frozenset[int]:
        """Those being read."""
        return frozenset(self._turns)

    @property
    def n_buffered(self) -> int:
        """Records that were read and wait for the caller."""
        return self._arrived.qsize()

    def _change(self, partition: int, place: int) -> None:
        self._turn += 1
        self._turns[partition] = self._turn
        self._changes.put((self._turn, partition, place))

    def _read(self) -> None:
        try:
            while not self._closing.is_set():
                self._apply_changes()
                # poll() gives the first record at once; consume() alone would wait until its batch is full
                first = self._consumer.poll(_POLL_S)
                if first is not None:
                    self._hand_over([first, *self._consumer.consume(_BATCH, timeout=0)])
        except BaseException as error:
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, error)

    def _apply_changes(self) -> None:
        while not self._changes.empty():
            turn, partition, place = self._changes.get()
            if self._turns_read.pop(partition, None) is not None:
                # seek() is refused while the place is unknown, so a new place is a new assignment
                self._consumer.incremental_unassign([TopicPartition(self._topic, partition)])
            if place is not None:
                self._consumer.incremental_assign([TopicPartition(self._topic, partition, place)])
                self._turns_read[partition] = turn

    def _hand_over(self, messages: list[Any]) -> None:
        for message in messages:
            item = self._item(message)
            if item is None:
                continue
            self._free.acquire()
            if self._closing.is_set():
                return
            turn = self._turns_read.get(item.partition, 0)
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, (turn, item))

    def _item(self, message: Any) -> _Item | None:
        error = message.error()
        if error is None:
            return Received(
                topic=message.topic(),
                partition=message.partition(),
                offset=message.offset(),
                key=message.key(),
                value=message.value(),
                headers=message.headers() or (),
                timestamp_ms=message.timestamp()[1],
            )
        if error.code() == KafkaError._PARTITION_EOF:
            return AtEnd(partition=message.partition(), offset=message.offset())
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            return self._resume(message.partition())
        if error.fatal():
            raise KafkaException(error)
        _log.warning("reader_trouble", topic=self._topic, error=error.str())
        return None

    def _resume(self, partition: int) -> Overtaken:
        place = TopicPartition(self._topic, partition)
        lowest, _ = self._consumer.get_watermark_offsets(place, timeout=_REQUEST_TIMEOUT_S)
        # seek() is refused in this state
        self._consumer.incremental_unassign([place])
        self._consumer.incremental_assign([TopicPartition(self._topic, partition, lowest)])
        return Overtaken(partition=partition, resumed=lowest)


async def record_at(settings: KafkaSettings, topic: str, partition: int, offset: int) -> Received | None:
    """Return one record; None: it is not kept any more, or was never there.

    Raises:
        MissingTopic: the topic or the partition does not exist.
        KafkaException: the brokers are away.
        TimeoutError: they do not answer.
    """
    async with asyncio.timeout(_REQUEST_TIMEOUT_S), PartitionReader(settings, topic, {partition: offset}) as reader:
        async for item in reader:
            return item if isinstance(item, Received) and item.offset == offset else None
    return None


def _place(start: Start, end: int) -> int:
    if isinstance(start, Last):
        return max(0, end - start.n_records)
    if start == BEGIN:
        return int(OFFSET_BEGINNING)
    return end if start == END else int(start)
