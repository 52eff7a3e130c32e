"""What a handler takes and gives: decoded records in, events out."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from schemas.events import Event
from schemas.topics import Topic

E_co = TypeVar("E_co", bound=Event, covariant=True)
E_contra = TypeVar("E_contra", bound=Event, contravariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a record stands. `topic_id` is Kafka's id of the topic, which a re-created topic does not share."""

    topic: str
    topic_id: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Inbound(Generic[E_co]):
    """A record as a handler sees it.

    Attributes:
        key: record key, as it came.
        event: decoded value; None for a tombstone. Stages of topics that strangers write (`decode=False`) get None
        and read
            `raw`.
        raw: the whole value, fetched from the object store where needed; None for a tombstone.
        headers: as they came.
        version: document version from the headers; None where there is none.
        origin: where it stands.
        timestamp_ms: when it was produced.
        traceparent: trace that it belongs to.
        reissue: version of the document that is done again, every part of it; None: it is done for the first time, or
            repeated by chance. What the handler yields carries it on.
    """

    key: bytes | None
    event: E_co | None
    raw: bytes | None
    origin: Origin
    timestamp_ms: int
    headers: Mapping[str, bytes] = field(default_factory=dict)
    version: int | None = None
    traceparent: str | None = None
    reissue: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outbound:
    """One event to publish.

    `event` None is a tombstone; `partition` None lets the key decide; `headers` go with those that every record has.
    """

    topic: Topic
    key: bytes
    event: Event | None
    version: int | None = None
    partition: int | None = None
    headers: Mapping[str, bytes] = field(default_factory=dict)


class Flush:
    """Yielded by a handler that must not go on before all it yielded so far is acknowledged by Kafka."""


FLUSH: Final = Flush()


class Claim:
    """Yielded by a handler whose record is kept elsewhere from now on (a row with a lease).

    Once all that it yielded before is acknowledged by Kafka, the record is acknowledged and the handler goes on, in its
    slot. A rebalance neither waits for it nor ends it. When the process stops it has the time of all handlers to end;
    then it is cancelled, and must give back what it holds.
    """


CLAIMED: Final = Claim()


class Handler(Protocol[E_contra]):
    """A stage as a function of a record.

    The runtime publishes what it yields, in order, and acknowledges the record when all of that is acknowledged. It
    may run
    again for the same record, so it must be idempotent. It raises only `streams.errors`.
    """

    def __call__(self, record: Inbound[E_contra]) -> AsyncIterator[Outbound | Flush | Claim]:
        """Do the stage's work for one record."""
        ...
