"""The table of chunkers: name -> how one is made of a tokenizer file. Adding one is a file and a line.

A chunker's name is part of the ids of its chunks and of its topic, so what a name stands for never changes.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from streams.chunk.chunkers.sentences import Sentences
from streams.chunk.chunkers.structure import Structure
from streams.chunk.chunkers.tokens import Tokens
from streams.chunk.document import Document, Piece

Chunker = Callable[[Document], tuple[Piece, ...]]

CHUNKERS: Final[Mapping[str, Callable[[Path], Chunker]]] = {
    "structure": Structure,
    "sentences": Sentences,
    "tokens": Tokens,
}
