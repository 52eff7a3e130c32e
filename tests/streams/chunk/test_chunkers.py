"""The table of chunkers."""

import re
from pathlib import Path

import pytest

from streams.chunk.chunkers import CHUNKERS, make_chunker, parse_chunker
from streams.chunk.chunkers.bounds import whole_tokenizer
from streams.chunk.parsers.markdown import parse_markdown
from streams.errors import Fatal
from tests.streams.chunk.vocabulary import tokenizer_file

TEXT = "# Gates\n\n" + "The river water opens the stone gate. " * 100


@pytest.mark.parametrize("kind", CHUNKERS)
def test_a_smaller_size_makes_more_chunks(tmp_path: Path, kind: str) -> None:
    tokenizer, document = whole_tokenizer(tokenizer_file(tmp_path)), parse_markdown(TEXT)

    n_chunks = [len(make_chunker(name, tokenizer)(document)) for name in (kind, f"{kind}-64", f"{kind}-16")]

    assert n_chunks == sorted(set(n_chunks))


def test_a_size_bounds_the_text_of_a_chunk(tmp_path: Path) -> None:
    tokenizer, document = whole_tokenizer(tokenizer_file(tmp_path)), parse_markdown(TEXT)

    def most(name: str) -> int:
        return max(piece.n_tokens for piece in make_chunker(name, tokenizer)(document))

    # beside the marks of the model and the heading path: the rest of a word; the heading's own line
    assert most("tokens-64") <= 64 + 4 + 7
    assert most("sentences-64") <= 64 + 4 + 4
    assert most("structure-50") <= 64 + 4


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "there is no chunker ''; known are 'structure' (size 200), 'sentences' (size 96), 'tokens' (size 160)"),
        ("Structure", "there is no chunker 'Structure'"),
        ("paragraphs-64", "there is no chunker 'paragraphs-64'"),
        ("tokens-064", "there is no chunker 'tokens-064'"),
        ("tokens-64-32", "there is no chunker 'tokens-64-32'"),
        ("tokens:64", "there is no chunker 'tokens:64'"),
        ("tokens-15", "has the size 15; known are"),
        ("structure-191", "each with another size of 16 to 190 wordpieces as in 'tokens-64'"),
        ("tokens-160", "the chunker 'tokens-160' is 'tokens', which it is to be called"),
    ],
)
def test_what_names_no_chunker_is_refused_with_those_there_are(name: str, said: str) -> None:
    with pytest.raises(Fatal, match=re.escape(said)):
        parse_chunker(name)
