"""The chunkers `sentences` and `tokens`."""

import pytest
from tokenizers import Tokenizer

from streams.chunk.chunkers.bounds import whole_tokenizer
from streams.chunk.chunkers.sentences import Sentences
from streams.chunk.chunkers.tokens import WINDOW_TOKENS, Tokens
from streams.chunk.document import Document, Piece, joined
from streams.chunk.parsers.markdown import parse_markdown
from streams.chunk.parsers.plain import parse_plain
from tests.streams.chunk.vocabulary import tokenizer_file

SENTENCE = "The river water opens the stone gate. "


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return whole_tokenizer(tokenizer_file(tmp_path_factory.mktemp("tokenizer")))


def texts(document: Document, pieces: tuple[Piece, ...]) -> list[str]:
    return [document.text[piece.start : piece.end] for piece in pieces]


def test_whole_sentences_are_put_together_up_to_the_target(tokenizer: Tokenizer) -> None:
    document = parse_markdown(f"# Gates\n\n{SENTENCE * 25}")

    pieces = Sentences(tokenizer)(document)

    # eight tokens each, so twelve are ninety-six
    assert [len(piece.sentences) for piece in pieces] == [12, 12, 1]
    assert all(text.endswith("gate.") for text in texts(document, pieces))
    assert texts(document, pieces)[0].startswith("# Gates")
    assert {piece.headings for piece in pieces} == {("Gates",)}


def test_sentences_do_not_cross_into_another_section(tokenizer: Tokenizer) -> None:
    document = parse_markdown("# A\n\nwater.\n\n# B\n\ngate.\n")

    pieces = Sentences(tokenizer)(document)

    assert texts(document, pieces) == ["# A\n\nwater.", "# B\n\ngate."]


def test_a_sentence_over_the_target_is_alone_and_within_the_bound(tokenizer: Tokenizer) -> None:
    document = parse_plain("Water. Stone " + "stone " * 400 + ". Gate.")

    pieces = Sentences(tokenizer)(document)

    assert texts(document, pieces)[0] == "Water."
    assert texts(document, pieces)[-1].endswith("Gate.")
    assert max(piece.n_tokens for piece in pieces) <= 256


def test_windows_have_one_size_and_bear_the_heading_where_they_begin(tokenizer: Tokenizer) -> None:
    document = parse_markdown(f"# A\n\n{SENTENCE * 10}\n\n# B\n\n{SENTENCE * 40}\n")

    pieces = Tokens(tokenizer)(document)

    assert [piece.headings for piece in pieces] == [("A",), ("B",), ("B",)]
    assert "# B" in texts(document, pieces)[0]
    assert all(piece.n_tokens >= WINDOW_TOKENS for piece in pieces[:-1])


def test_windows_begin_anew_on_each_page(tokenizer: Tokenizer) -> None:
    document = joined([parse_plain("water"), parse_plain(""), parse_plain("gate")], paged=True)

    assert texts(document, Tokens(tokenizer)(document)) == ["water", "gate"]
