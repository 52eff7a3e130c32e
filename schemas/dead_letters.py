"""What the headers of a dead letter say beside those that its record came with."""

from collections.abc import Mapping
from dataclasses import dataclass

MESSAGE_MAX_CHARS = 2_000
PREFIX = "hr_dlq_"
"""Of all headers that a dead letter has and its record has not."""


class NoDeadLetter(ValueError):
    """The headers are not those of a dead letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """Why a record was given up, and where it stood.

    Attributes:
        stage: that gave it up.
        reason: a short word for machines.
        message: a sentence for people.
        attempts: how often it was tried.
        topic: where the record stood, with `topic_id`, `partition` and `offset`.
        timestamp_ms: when the record was produced; 0: not told.
        group: consumer group of the stage, which tells the chunker or the index generation; empty: not told.
    """

    stage: str
    reason: str
    message: str
    attempts: int
    topic: str
    topic_id: str
    partition: int
    offset: int
    timestamp_ms: int = 0
    group: str = ""

    def headers(self) -> list[tuple[str, bytes]]:
        """Return the headers, to be put behind those of the record."""
        told = {
            "reason": self.reason,
            "message": self.message[:MESSAGE_MAX_CHARS],
            "attempts": str(self.attempts),
            "topic": self.topic,
            "partition": str(self.partition),
            "offset": str(self.offset),
            "topic_id": self.topic_id,
            "timestamp": str(self.timestamp_ms),
            "stage": self.stage,
            "group": self.group,
        }
        return [(PREFIX + name, text.encode("utf-8", "replace")) for name, text in told.items()]

    @classmethod
    def of(cls, headers: Mapping[str, bytes]) -> "Why":
        """Read them back; of a name that comes twice the last one holds.

        Raises:
            NoDeadLetter: some are missing or no numbers.
        """

        def text(name: str) -> str:
            return headers[PREFIX + name].decode("utf-8", "replace")

        try:
            return cls(
                stage=text("stage"),
                reason=text("reason"),
                message=text("message"),
                attempts=int(text("attempts")),
                topic=text("topic"),
                topic_id=text("topic_id"),
                partition=int(text("partition")),
                offset=int(text("offset")),
                timestamp_ms=int(headers.get(PREFIX + "timestamp", b"0")),
                group=headers.get(PREFIX + "group", b"").decode("utf-8", "replace"),
            )
        except (KeyError, ValueError) as error:
            raise NoDeadLetter(f"no dead letter: {error}") from error
