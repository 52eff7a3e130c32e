"""Topics and consumer groups of index generations, in memory."""

from dataclasses import dataclass, field

from schemas.topics import CHUNKS, EMBEDDINGS
from streams.operator.generations import InUse
from streams.ports import Generation


@dataclass(kw_only=True)
class MemoryBelongings:
    """`Belongings`.

    Attributes:
        topics: that there are.
        groups: that there are, and how many members each has.
        told: what was done, in order.
    """

    topics: set[str] = field(default_factory=set)
    groups: dict[str, int] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)

    async def make(self, generation: Generation) -> None:
        self.topics |= {CHUNKS.named(generation.chunker).name, EMBEDDINGS.named(generation.name).name}
        self.told.append(f"topics of {generation.name}")

    async def drop(self, generation: Generation, *, chunks_too: bool) -> None:
        groups = [f"rag.embed.{generation.name}", f"rag.index.{generation.name}"]
        if generation.in_opensearch:
            groups.append(f"rag.index.{generation.name}.opensearch")
        topics = {EMBEDDINGS.named(generation.name).name}
        if chunks_too:
            groups.append(f"rag.chunk.{generation.chunker}")
            topics.add(CHUNKS.named(generation.chunker).name)
        for group in groups:
            if n_members := self.groups.get(group, 0):
                raise InUse(f"group {group!r} has {n_members} member(s)")
        for group in groups:
            self.groups.pop(group, None)
        self.topics -= topics
        self.told.append(f"topics of {generation.name} gone, chunks too: {chunks_too}")
