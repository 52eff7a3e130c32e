"""Publishes the latest version of a document once more, so that every stage does its work again."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from schemas.events import DocumentAccepted, DocumentSubmitted
from schemas.ids import DocumentKey
from streams.errors import Unprocessable
from streams.intake.published import publication
from streams.ports import Clock, DocumentStore, Latest
from streams.progress import became
from streams.runtime.record import FLUSH, Flush, Inbound, Origin, Outbound

REQUEST: Final = b"{}"
"""Value of a request; its header says which version."""

EARLIER_MS: Final = 60_000
"""So much earlier than the store's clock says the log is looked through: clocks differ."""


def is_request(record: Inbound[Any]) -> bool:
    """Tell whether a record of the ingest topic asks for a re-issue."""
    return record.reissue is not None and record.raw == REQUEST


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A record of the ingest topic. `raw` is the whole value, None for a delete."""

    raw: bytes | None
    timestamp_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A version that the documents topic holds. `event` None: it deletes the document."""

    event: DocumentAccepted | None


class Log(Protocol):
    """What the topics still hold of a document. All methods raise `Transient` when Kafka is away."""

    async def accepted(self, key: DocumentKey, version: int, since_ms: int) -> Held | None:
        """Return a version of the document from the documents topic; None: it does not hold it.

        Records that were produced before `since_ms` are not looked at.
        """
        ...

    async def submission(self, place: Origin) -> Submission | None:
        """Return what was submitted at a place; None: it is not kept any more, or the topic was created anew."""
        ...


@dataclass(frozen=True, kw_only=True)
class Reissue:
    """Handles requests of the ingest topic to do a version again. It gives no version, ever.

    Attributes:
        documents: knows the latest version.
        log: holds it.
        clock: stamps what is said.
        submit: handles a submission.
    """

    documents: DocumentStore
    log: Log
    clock: Clock
    submit: Callable[[Inbound[DocumentSubmitted]], AsyncIterator[Outbound | Flush]]

    async def __call__(
        self, key: DocumentKey, version: int, record: Inbound[DocumentSubmitted]
    ) -> AsyncIterator[Outbound | Flush]:
        """Publish the version under the lock of its document; `superseded` where there is a newer one.

        Of a document that neither log nor store know, a tombstone is published.

        Raises:
            Unprocessable: neither log nor store know the version.
            Transient: Kafka or Postgres is away.
        """
        latest = await self.documents.latest(key)
        if latest is not None and latest.version > version:
            yield became("superseded", key, version, stage="intake", clock=self.clock)
            return
        found = await self._found(key, version, latest)
        if isinstance(found, Submission) and latest is not None and latest.submission is not None:
            again = replace(record, raw=found.raw, origin=latest.submission, timestamp_ms=found.timestamp_ms)
            async for output in self.submit(again):
                yield output
            return
        async with self.documents.holding_latest(key, version) as is_latest:
            if not is_latest:
                yield became("superseded", key, version, stage="intake", clock=self.clock)
                return
            event = found.event if isinstance(found, Held) else None
            yield became("reissued", key, version, stage="intake", clock=self.clock)
            yield publication(key, version, event, latest.origins if latest is not None else {})
            yield FLUSH

    async def _found(self, key: DocumentKey, version: int, latest: Latest | None) -> Held | Submission:
        if latest is not None and latest.version == version and latest.deleted:
            return Held(event=None)
        since_ms = 0 if latest is None else max(0, latest.accepted_ms - EARLIER_MS)
        held = await self.log.accepted(key, version, since_ms)
        if held is not None:
            return held
        if latest is not None and latest.version == version and latest.submission is not None:
            submission = await self.log.submission(latest.submission)
            if submission is not None:
                return submission
        if latest is None:
            # Nobody knows of it: whatever is left of it anywhere goes.
            return Held(event=None)
        raise Unprocessable(
            "not_in_log",
            f"version {version} of {str(key)!r} is neither in the documents topic nor in the ingest topic any more; "
            "submit the document again",
        )
