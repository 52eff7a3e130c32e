"""The status of documents in memory."""

from dataclasses import dataclass

from schemas.events import LifecycleChanged
from schemas.ids import DocumentId, DocumentKey, Tenant
from streams.lifecycle.rank import STATUS_RANKS
from tests.doubles.document_store import MemoryDocuments


@dataclass(kw_only=True)
class MemoryStatus:
    """`StatusProjection` on the rows of `MemoryDocuments`."""

    documents: MemoryDocuments

    async def project(self, event: LifecycleChanged) -> None:
        row = self.documents.rows.get(DocumentKey(Tenant(event.tenant), DocumentId(event.document)))
        if row is None:
            return
        if event.status == "warned":
            if event.version > row.warnings_version:
                row.warnings, row.warnings_version = [], event.version
            if event.version == row.warnings_version and event.message not in row.warnings:
                row.warnings.append(event.message or "")
            return
        rank = STATUS_RANKS.get(event.status)
        if rank is None or (event.status == "failed" and event.stage == "intake"):
            return
        if (row.status_version, row.status_rank) > (event.version, rank):
            return
        if event.n_chunks is not None:
            row.n_chunks = event.n_chunks
        elif row.status_version != event.version:
            row.n_chunks = None
        failed = event.status == "failed"
        row.status_version = event.version
        row.say(event.status, rank, event.stage, event.reason if failed else None, event.message if failed else None)
