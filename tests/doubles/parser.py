"""A parser without processes."""

from dataclasses import dataclass

from streams.chunk.chunkers import Chunker
from streams.chunk.cut import parse_and_cut
from streams.chunk.document import Parsed


@dataclass(kw_only=True)
class InlineParser:
    """`Parser` that parses where it is called; `n_parsed` counts."""

    chunkers: dict[str, Chunker]
    n_parsed: int = 0

    async def parse(self, source: str | bytes, *, content_type: str, chunker: str) -> Parsed:
        self.n_parsed += 1
        return parse_and_cut(source, content_type, self.chunkers[chunker])
