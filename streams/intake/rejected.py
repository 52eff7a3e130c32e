"""What becomes of a document whose submission was given up.

No version is spent on a bad submission: the version before it stays live, and one still on its way still arrives. Its
place in the ingest topic is remembered all the same, so that a client which waits for this submission learns its end,
and a late redelivery cannot fail what was accepted since.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from schemas.events import DocumentSubmitted
from schemas.ids import InvalidId, parse_document_key
from streams.errors import Unprocessable
from streams.intake.origin import origin_of
from streams.intake.reissue import is_request
from streams.ports import Clock, DocumentStore
from streams.progress import became
from streams.runtime.record import Flush, Inbound, Outbound
from streams.runtime.stage import DeadLetter


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """`on_dead_letter` of the intake stage."""

    documents: DocumentStore
    clock: Clock

    async def __call__(self, record: Inbound[DocumentSubmitted], letter: DeadLetter) -> AsyncIterator[Outbound | Flush]:
        """Let the document's status say why; a record without a valid key belongs to no document.

        A request to do a version again is no submission: nothing becomes of the document.
        """
        if is_request(record):
            return
        try:
            key = parse_document_key(record.key)
            origin, _ = origin_of(record)
        except (InvalidId, Unprocessable):
            return
        version = await self.documents.reject(key, origin, reason=letter.reason, message=letter.message)
        if version is not None:
            reason, message = letter.reason, letter.message
            yield became("failed", key, version, stage="intake", clock=self.clock, reason=reason, message=message)
