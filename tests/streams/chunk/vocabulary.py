"""A tokenizer that needs no download: a wordpiece for each character of ASCII, whole words for a few."""

import string
from pathlib import Path
from typing import Final

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

WORDS: Final = ("water", "gate", "stone", "river", "opens", "the")
_CHARACTERS: Final = string.ascii_lowercase + string.digits + string.punctuation


def tokenizer_file(folder: Path) -> Path:
    """Write the tokenizer into `folder` and return its path."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS, *_CHARACTERS, *(f"##{c}" for c in _CHARACTERS)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path
