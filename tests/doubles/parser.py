"""A parser without processes."""

from dataclasses import dataclass

from tokenizers import Tokenizer

from streams.chunk.chunkers import make_chunker
from streams.chunk.cut import parse_and_cut
from streams.chunk.document import Parsed


@dataclass(kw_only=True)
class InlineParser:
    """`Parser` that parses where it is called; `n_parsed` counts."""

    tokenizer: Tokenizer
    n_parsed: int = 0

    async def parse(self, source: str | bytes, *, content_type: str, chunker: str) -> Parsed:
        self.n_parsed += 1
        return parse_and_cut(source, content_type, make_chunker(chunker, self.tokenizer))
