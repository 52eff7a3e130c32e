"""A publisher that keeps records in memory, and that can be told to fail or to wait."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backbone.kafka import Delivered, PublishFailed


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A record as it was sent."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    partition: int


class MemoryPublisher:
    """Acknowledges at once, unless told otherwise.

    Attributes:
        sent: what was acknowledged, in order.
        failures: topic -> how often sending to it still fails.
        held: acknowledgements that wait, while `hold` is true.
    """

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.failures: Counter[str] = Counter()
        self.hold = False
        self.held: list[asyncio.Future[Delivered]] = []
        self._ends: Counter[tuple[str, int]] = Counter()

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] | Mapping[str, bytes | None] = (),
        partition: int | None = None,
    ) -> asyncio.Future[Delivered]:
        """Keep the record; the future is done at once, fails, or waits for `release`."""
        delivered: asyncio.Future[Delivered] = asyncio.get_running_loop().create_future()
        if self.failures[topic]:
            self.failures[topic] -= 1
            delivered.set_exception(PublishFailed(f"topic {topic!r}: told to fail"))
            delivered.exception()
            return delivered
        pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        place = partition or 0
        self.sent.append(Sent(topic=topic, key=key, value=value, headers=pairs, partition=place))
        if self.hold:
            self.held.append(delivered)
        else:
            delivered.set_result(Delivered(topic, place, self._ends[topic, place]))
        self._ends[topic, place] += 1
        return delivered

    def release(self) -> None:
        """Acknowledge what waits."""
        for delivered in self.held:
            if not delivered.done():
                delivered.set_result(Delivered("", 0, 0))
        self.held.clear()
