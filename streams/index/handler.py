"""Makes a document version live in one generation, or takes the document out of it."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from schemas.events import DocumentEmbedded
from streams.ports import Clock, GenerationStore
from streams.progress import became, place_of
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
        """Write behind the fence, then say `indexed` or `deleted`; `superseded` when the fence refused.

        A version that is done again is written whole, whatever is held of it.
        """
        key, version = place_of(record)
        n_chunks: int | None = None
        if record.event is None:
            status = "deleted" if await self.generation.remove(key, version) else "superseded"
        elif await self.generation.replace(record.event, whole=record.reissue is not None):
            status, n_chunks = "indexed", len(record.event.chunks)
        else:
            status = "superseded"
        yield became(status, key, version, stage="index", clock=self.clock, generation=self.name, n_chunks=n_chunks)
