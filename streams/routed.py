"""Hands each record to the handler of the index generation that it names."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from streams.runtime.record import Claim, Flush, Handler, Inbound, Outbound


@dataclass(frozen=True, kw_only=True)
class ByGeneration:
    """A handler of records that name a generation.

    Attributes:
        handler: returns that of a generation; None: the generation is gone, and nothing is to be done.
    """

    handler: Callable[[str], Awaitable[Handler[Any] | None]]

    async def __call__(self, record: Inbound[Any]) -> AsyncIterator[Outbound | Flush | Claim]:
        """Do the work for one record; a tombstone names none and asks for nothing.

        Raises:
            Transient: the generation cannot be asked now.
            StreamError: as its handler raises it.
        """
        if record.event is None:
            return
        handler = await self.handler(record.event.generation)
        if handler is not None:
            async for each in handler(record):
                yield each
