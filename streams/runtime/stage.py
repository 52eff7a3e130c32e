"""A stage: one handler, its source topics, one consumer group, and the limits within which it runs."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from schemas.events import Event
from schemas.topics import DEAD_LETTERS, Topic
from streams.runtime.outages import KAFKA
from streams.runtime.record import Flush, Handler, Inbound, Outbound


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Why a record was given up.

    Attributes:
        reason: a short word for machines: that of `Unprocessable`, or `undecodable`, `blob_missing`, `deadline`,
            `retries_exhausted`, `bug`, `kills_worker`.
        message: a sentence for people.
        attempts: how often it was tried.
    """

    reason: str
    message: str
    attempts: int


DeadLetterHook = Callable[[Inbound[Any], DeadLetter], AsyncIterator[Outbound | Flush]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What the runtime runs: one Faust App.

    Attributes:
        name: one of `schemas.topics.STAGES`; also names the dead-letter topic and labels metrics.
        group: consumer group.
        topic: where its records come from; its `event` is what they decode to.
        more_topics: further sources, each with an event of its own. Records of one key, of all topics together, run
            one after the other; `Inbound.origin.topic` says where one came from.
        handler: the work.
        slots: handlers that run at once.
        deadline_s: longest time of one attempt, with its deliveries.
        retry_max_s: how long a transient failure is retried before the record is given up.
        decode: False gives the handler the value as it came (`raw`), for topics that strangers write.
        whole: False leaves a value that is in the object store there; only with `decode` False.
        on_dead_letter: called after a dead letter is written; what it yields is published. Transient is retried,
            anything else it raises is logged and ends it.
        buffer_bytes: keys and values of records in flight; a larger single record passes alone.
        needs: parts without which no record can be handled, beside Kafka: while one is away, no attempt starts.
    """

    name: str
    group: str
    topic: Topic
    more_topics: tuple[Topic, ...] = ()
    handler: Handler[Any]
    slots: int
    deadline_s: float
    retry_max_s: float = 120.0
    decode: bool = True
    whole: bool = True
    on_dead_letter: DeadLetterHook | None = None
    buffer_bytes: int = 64 * 1024 * 1024
    needs: tuple[str, ...] = ("postgres",)

    def __post_init__(self) -> None:
        if self.slots < 1 or self.deadline_s <= 0 or self.retry_max_s < 0 or self.buffer_bytes < 1:
            raise ValueError(f"stage {self.name!r}: slots, deadline_s and buffer_bytes must be positive")
        if self.decode and not self.whole:
            raise ValueError(f"stage {self.name!r}: what is decoded must be whole")
        for topic in self.topics:
            if self.decode and topic.event is None:
                raise ValueError(f"stage {self.name!r}: topic {topic.name!r} has no event type; set decode=False")
        if len(set(self.topic_names)) < len(self.topics):
            raise ValueError(f"stage {self.name!r}: topics {self.topic_names!r}: each may be given once")

    @property
    def all_needs(self) -> tuple[str, ...]:
        """The parts that it needs, Kafka among them."""
        return (KAFKA, *self.needs)

    @property
    def topics(self) -> tuple[Topic, ...]:
        """All sources."""
        return (self.topic, *self.more_topics)

    @property
    def topic_names(self) -> list[str]:
        """Names of all sources."""
        return [topic.name for topic in self.topics]

    def event_of(self, topic: str) -> type[Event] | None:
        """Return what records of this source decode to; None where they are handed on as they came.

        Raises:
            KeyError: it is no source of the stage.
        """
        return {source.name: source.event for source in self.topics}[topic] if self.decode else None

    @property
    def source(self) -> str:
        """`ce_source` of what the stage publishes."""
        return f"/headrace/{self.name}"

    @property
    def dead_letters(self) -> Topic:
        """Where the stage puts what it gives up."""
        return DEAD_LETTERS.named(self.name)
