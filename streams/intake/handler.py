"""Checks what was submitted, gives it a version, and publishes it under the lock of its document."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from schemas.events import DocumentAccepted, DocumentSubmitted
from schemas.ids import DocumentKey
from streams.intake.origin import origin_of
from streams.intake.patch import Change, Patch
from streams.intake.published import attributes_of, publication
from streams.intake.reissue import Log, Reissue, is_request
from streams.intake.submission import check_content, check_text, parse, type_of_file, type_of_text
from streams.intake.uri_source import Fetched, UriSource
from streams.ports import Clock, DocumentStore, Versioned
from streams.progress import became, key_of
from streams.runtime.record import FLUSH, Flush, Inbound, Outbound

WARNED_FIELDS_MAX: Final = 10


@dataclass(frozen=True, kw_only=True)
class Intake:
    """The handler of the ingest topic; its stage runs with `decode=False`, because strangers write there.

    Attributes:
        documents: gives versions.
        uris: fetches documents that were submitted by uri.
        clock: stamps what is accepted.
        log: what the topics still hold.
        document_max_bytes: largest file, or text in UTF-8.
    """

    documents: DocumentStore
    uris: UriSource
    clock: Clock
    log: Log
    document_max_bytes: int

    async def __call__(self, record: Inbound[DocumentSubmitted]) -> AsyncIterator[Outbound | Flush]:
        """Publish the document at its version, or its tombstone, and say so; a redelivery is dropped."""
        key = key_of(record)
        if record.reissue is not None and is_request(record):
            reissue = Reissue(documents=self.documents, log=self.log, clock=self.clock, submit=self._submitted)
            outputs = reissue(key, record.reissue, record)
        else:
            outputs = self._submitted(record)
        async for output in outputs:
            yield output

    async def _submitted(self, record: Inbound[DocumentSubmitted]) -> AsyncIterator[Outbound | Flush]:
        key = key_of(record)
        submission = None if record.raw is None else parse(record.raw)
        unknown_fields = submission.unknown_fields if submission is not None else ()
        document, given = await self._versioned(key, record, submission.event if submission is not None else None)
        if given.outcome == "redelivered":
            return
        if given.outcome == "overtaken":
            yield became("superseded", key, given.version, stage="intake", clock=self.clock)
            return
        # Held until Kafka has acknowledged: so versions of one document enter the log in their order.
        async with self.documents.holding_latest(key, given.version) as latest:
            if not latest:
                yield became("superseded", key, given.version, stage="intake", clock=self.clock)
                return
            status = "accepted" if document is not None else "deleted"
            yield became(status, key, given.version, stage="intake", clock=self.clock)
            if unknown_fields:
                yield self._warning(key, given.version, unknown_fields)
            event = None if document is None else msgspec.structs.replace(document, version=given.version)
            yield publication(key, given.version, event, given.origins)
            yield FLUSH

    async def _versioned(
        self, key: DocumentKey, record: Inbound[DocumentSubmitted], event: DocumentSubmitted | None
    ) -> tuple[DocumentAccepted | None, Versioned]:
        """Return the document, whole but for its version (None: a delete), and what was decided about that."""
        origin, redriven = origin_of(record)
        if event is not None and event.patch is not None:
            change = Change(
                key=key,
                origin=origin,
                redriven=redriven,
                patch=event.patch,
                groups=event.patch_groups,
                submitted_ms=record.timestamp_ms,
            )
            patched = await Patch(documents=self.documents, log=self.log, clock=self.clock)(change)
            return patched.document, patched.given
        document = None if event is None else await self._checked(key, record, event)
        given = await self.documents.assign(
            key, origin, deleted=document is None, attributes=attributes_of(document), redriven=redriven
        )
        return document, given

    async def _checked(
        self, key: DocumentKey, record: Inbound[DocumentSubmitted], event: DocumentSubmitted
    ) -> DocumentAccepted:
        """Return the document, whole but for its version."""
        if event.uri is not None:
            source = await self.uris.fetch(event.uri)
        else:
            source = Fetched(text=event.text or "", content=event.content)
        return DocumentAccepted(
            tenant=key.tenant,
            document=key.document,
            version=0,
            text=source.text,
            content=source.content,
            filename=event.filename,
            content_type=self._content_type(event, source, key),
            collection=event.collection,
            title=event.title,
            uri=event.uri,
            metadata=event.metadata,
            acl=event.acl,
            accepted_ms=self.clock.now_ms(),
            submitted_ms=record.timestamp_ms,
        )

    def _content_type(self, event: DocumentSubmitted, source: Fetched, key: DocumentKey) -> str:
        """Check text or file, and return its content type."""
        declared = event.content_type or source.content_type
        path = unquote(urlsplit(event.uri).path) if event.uri is not None else ""
        names = [event.filename or "", path, key.document]
        if source.content is None:
            check_text(source.text, self.document_max_bytes)
            return type_of_text(declared, names)
        check_content(source.content, self.document_max_bytes)
        return type_of_file(declared, names)

    def _warning(self, key: DocumentKey, version: int, unknown_fields: tuple[str, ...]) -> Outbound:
        named = ", ".join(repr(name[:80]) for name in unknown_fields[:WARNED_FIELDS_MAX])
        known = ", ".join(DocumentSubmitted.__struct_fields__)
        message = f"{len(unknown_fields)} unknown field(s) left out: {named}; known are {known}"
        return became("warned", key, version, stage="intake", clock=self.clock, reason="unknown_field", message=message)
