"""Makes a document version live in one generation, or takes the document out of it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from schemas.events import DocumentEmbedded, LifecycleChanged
from schemas.ids import DocumentKey, InvalidId, parse_document_key
from schemas.topics import LIFECYCLE
from streams.errors import Unprocessable
from streams.ports import Clock, GenerationStore
from streams.runtime.record import Flush, Inbound, Outbound


@dataclass(frozen=True, kw_only=True)
class Index:
    """The handler of an embeddings topic.

    Attributes:
        generation: where chunks and vectors go.
        name: of that generation.
        clock: stamps what was done.
    """

    generation: GenerationStore
    name: str
    clock: Clock

    async def __call__(self, record: Inbound[DocumentEmbedded]) -> AsyncIterator[Outbound | Flush]:
        """Write behind the fence, then say `indexed` or `deleted`; `superseded` when the fence refused."""
        key, version = _place(record)
        if record.event is None:
            done = await self.generation.remove(key, version)
            yield self._became("deleted" if done else "superseded", key, version)
        else:
            done = await self.generation.replace(record.event)
            n_chunks = len(record.event.chunks) if done else None
            yield self._became("indexed" if done else "superseded", key, version, n_chunks)

    def _became(self, status: str, key: DocumentKey, version: int, n_chunks: int | None = None) -> Outbound:
        event = LifecycleChanged(
            tenant=key.tenant,
            document=key.document,
            version=version,
            status=status,
            stage="index",
            at_ms=self.clock.now_ms(),
            generation=self.name,
            n_chunks=n_chunks,
        )
        return Outbound(topic=LIFECYCLE, key=key.encode(), event=event, version=version)


def _place(record: Inbound[DocumentEmbedded]) -> tuple[DocumentKey, int]:
    """Return document and version of a record; its key, header and value must agree."""
    try:
        key = parse_document_key(record.key)
    except InvalidId as error:
        raise Unprocessable("bad_key", str(error)) from error
    if record.event is None:
        if record.version is None:
            raise Unprocessable("no_version", "a tombstone without a version header cannot be put behind the fence")
        return key, record.version
    if (record.event.tenant, record.event.document) != (key.tenant, key.document):
        raise Unprocessable(
            "bad_key", f"the key is {str(key)!r}, the value speaks of {record.event.tenant}/{record.event.document!r}"
        )
    return key, record.event.version
