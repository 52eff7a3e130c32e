"""What a document stage says of a record that it gave up."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from schemas.events import LifecycleChanged
from schemas.ids import InvalidId, parse_document_key
from schemas.topics import LIFECYCLE
from streams.ports import Clock
from streams.runtime.record import Flush, Inbound, Outbound
from streams.runtime.stage import DeadLetter


@dataclass(frozen=True, kw_only=True)
class FailedDocument:
    """`on_dead_letter` of the stages after intake: the document's status becomes `failed`, with the reason.

    Attributes:
        stage: name of the stage.
        clock: stamps the event.
    """

    stage: str
    clock: Clock

    async def __call__(self, record: Inbound[Any], letter: DeadLetter) -> AsyncIterator[Outbound | Flush]:
        """Say that this version failed; a record without a document key and a version is nobody's and says nothing."""
        try:
            key = parse_document_key(record.key)
        except InvalidId:
            return
        version = record.version or getattr(record.event, "version", None)
        if version is None:
            return
        event = LifecycleChanged(
            tenant=key.tenant,
            document=key.document,
            version=version,
            status="failed",
            stage=self.stage,
            at_ms=self.clock.now_ms(),
            reason=letter.reason,
            message=letter.message,
        )
        yield Outbound(topic=LIFECYCLE, key=key.encode(), event=event, version=version)
