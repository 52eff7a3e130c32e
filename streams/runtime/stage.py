"""A stage: one handler, one source topic, one consumer group, and the limits within which it runs."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from schemas.topics import DEAD_LETTERS, Topic
from streams.runtime.record import Flush, Handler, Inbound, Outbound


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Why a record was given up.

    Attributes:
        reason: a short word for machines: that of `Unprocessable`, or `undecodable`, `blob_missing`, `deadline`,
            `retries_exhausted`, `bug`.
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
        handler: the work.
        slots: handlers that run at once.
        deadline_s: longest time of one attempt, with its deliveries.
        retry_max_s: how long a transient failure is retried before the record is given up.
        decode: False gives the handler the value as it came (`raw`), for topics that strangers write.
        on_dead_letter: called after a dead letter is written; what it yields is published. Transient is retried,
            anything else it raises is logged and ends it.
        buffer_bytes: keys and values of records in flight; a larger single record passes alone.
    """

    name: str
    group: str
    topic: Topic
    handler: Handler[Any]
    slots: int
    deadline_s: float
    retry_max_s: float = 120.0
    decode: bool = True
    on_dead_letter: DeadLetterHook | None = None
    buffer_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        if self.slots < 1 or self.deadline_s <= 0 or self.retry_max_s < 0 or self.buffer_bytes < 1:
            raise ValueError(f"stage {self.name!r}: slots, deadline_s and buffer_bytes must be positive")
        if self.decode and self.topic.event is None:
            raise ValueError(f"stage {self.name!r}: topic {self.topic.name!r} has no event type; set decode=False")

    @property
    def source(self) -> str:
        """`ce_source` of what the stage publishes."""
        return f"/headrace/{self.name}"

    @property
    def dead_letters(self) -> Topic:
        """Where the stage puts what it gives up."""
        return DEAD_LETTERS.named(self.name)
