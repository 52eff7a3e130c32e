"""What following a topic needs of Kafka; `backbone.kafka.PartitionReader` gives it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from backbone.kafka import AtEnd, Overtaken, Received, Start

Item = Received | AtEnd | Overtaken


class Reader(Protocol):
    """Reads chosen partitions of one topic in order, and goes on at their end as records come."""

    @property
    def partitions(self) -> frozenset[int]:
        """Those being read."""
        ...

    def __aiter__(self) -> AsyncIterator[Item]:
        """Yield what is read. Fails with KafkaException where reading is over for good."""
        ...

    async def add(self, starts: Mapping[int, Start]) -> None:
        """Read these partitions too.

        Raises:
            MissingTopic: one of them does not exist.
            KafkaException: the brokers are away.
        """
        ...

    def drop(self, partition: int) -> None:
        """Read this partition no more."""
        ...


OpenReader = Callable[[Mapping[int, Start]], AbstractAsyncContextManager[Reader]]
"""Opens a reader with the places where it starts; entering it may fail as `Reader.add`."""
