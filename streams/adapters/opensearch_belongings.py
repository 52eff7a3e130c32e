"""The indices of generations, in OpenSearch."""

from collections.abc import Callable
from dataclasses import dataclass

from streams.adapters.opensearch_index import OpensearchIndex
from streams.ports import Generation


@dataclass(frozen=True, kw_only=True)
class OpensearchBelongings:
    """`Belongings` in OpenSearch, of the generations that are searched there; methods raise as `asking` does, too.

    Attributes:
        index: returns that of a generation; raises `Fatal` where there is no OpenSearch.
    """

    index: Callable[[Generation], OpensearchIndex]

    async def make(self, generation: Generation) -> None:
        """See `Belongings.make`."""
        if generation.in_opensearch:
            await self.index(generation).ensure()

    async def drop(self, generation: Generation, *, chunks_too: bool) -> None:
        """See `Belongings.drop`; the index holds no chunks of other generations."""
        if generation.in_opensearch:
            await self.index(generation).drop()
