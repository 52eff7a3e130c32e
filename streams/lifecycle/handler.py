"""Projects the status of documents from lifecycle events."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from schemas.events import LifecycleChanged
from streams.ports import StatusProjection
from streams.runtime.record import FLUSH, Flush, Inbound, Outbound


@dataclass(frozen=True, kw_only=True)
class Project:
    """The handler of the lifecycle topic; it publishes nothing."""

    status: StatusProjection

    async def __call__(self, record: Inbound[LifecycleChanged]) -> AsyncIterator[Outbound | Flush]:
        """Apply one event; a tombstone says nothing."""
        if record.event is not None:
            await self.status.project(record.event)
        return
        yield FLUSH  # never reached: it makes this function a generator, as all handlers are
