"""The index of a generation in OpenSearch, as it is compared with what the generation serves."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from schemas.ids import DocumentKey
from streams.adapters.opensearch_index import OpensearchIndex
from streams.operator.overdue import Hop
from streams.operator.views import Chunks, Held

_POLL_S: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class OpensearchView:
    """`OwnView` that all retrieval workers share. Methods raise as `asking` does, too.

    Attributes:
        index: of the generation.
        hop: how far its stage has come.
    """

    index: OpensearchIndex
    hop: Hop

    async def catch_up(self) -> None:
        """See `OwnView.catch_up`; what is not written yet is counted by coverage, and waited for there."""
        await self.index.count()

    async def reach_end(self) -> None:
        """See `OwnView.reach_end`."""
        ends = await self.hop.ends()
        while True:
            handled = await self.hop.handled()
            if all(handled.get(partition, 0) >= end for partition, end in ends.items()):
                return await self.index.refresh()
            await asyncio.sleep(_POLL_S)

    async def held(self, keys: Collection[DocumentKey]) -> Mapping[DocumentKey, Held]:
        """See `OwnView.held`; chunks without a head are of version 0."""
        return {
            each.key: Held(version=each.version or 0, chunks=Chunks.of(each.chunks))
            async for each in self.index.documents(keys)
        }
