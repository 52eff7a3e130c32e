"""The chunker `structure`."""

import pytest

from streams.chunk.chunkers.bounds import whole_tokenizer
from streams.chunk.chunkers.structure import Structure
from streams.chunk.document import Document, Piece, joined
from streams.chunk.parsers.markdown import parse_markdown
from streams.chunk.parsers.plain import parse_plain
from streams.errors import Unprocessable
from tests.streams.chunk.vocabulary import tokenizer_file

PARAGRAPH = "The river water opens the stone gate. " * 5


@pytest.fixture(scope="module")
def structure(tmp_path_factory: pytest.TempPathFactory) -> Structure:
    return Structure(whole_tokenizer(tokenizer_file(tmp_path_factory.mktemp("tokenizer"))))


def texts(document: Document, pieces: tuple[Piece, ...]) -> list[str]:
    return [document.text[piece.start : piece.end] for piece in pieces]


def test_no_chunk_goes_over_the_end_of_a_page(structure: Structure) -> None:
    parts = [parse_markdown(text) for text in ("# A\n\nwater\n", "", "gate\n\n# B", "stone\n")]

    document = joined(parts, paged=True)
    pieces = structure(document)

    assert texts(document, pieces) == ["# A\n\nwater", "gate", "# B", "stone"]
    assert [piece.headings for piece in pieces] == [("A",), ("A",), ("B",), ("B",)]


def test_a_heading_goes_with_the_text_under_it(structure: Structure) -> None:
    document = parse_markdown("intro\n\n# A\n\nwater\n\n## B\n\ngate\n\n# C\n\nstone\n")

    pieces = structure(document)

    assert texts(document, pieces) == ["intro", "# A\n\nwater", "## B\n\ngate", "# C\n\nstone"]
    assert [piece.headings for piece in pieces] == [(), ("A",), ("A", "B"), ("C",)]


def test_a_heading_without_text_goes_with_the_deeper_one_that_follows(structure: Structure) -> None:
    document = parse_markdown("# A\n\n## B\n\nwater\n\n## C\n\n# D\n")

    pieces = structure(document)

    assert texts(document, pieces) == ["# A\n\n## B\n\nwater", "## C", "# D"]
    assert [piece.headings for piece in pieces] == [("A", "B"), ("A", "C"), ("D",)]


def test_a_heading_line_is_a_sentence_only_where_it_is_alone(structure: Structure) -> None:
    document = parse_markdown("# A\n\nwater. gate\n\n# D\n")

    [first, second] = structure(document)

    assert document.text[first.start + first.sentences[0][0] : first.start + first.sentences[0][1]] == "water. gate"
    assert second.sentences == ((0, 3),)


def test_a_heading_is_never_left_alone_when_its_text_is_long(structure: Structure) -> None:
    document = parse_markdown(f"# Gates\n\n{PARAGRAPH * 10}\n")

    pieces = structure(document)

    assert len(pieces) == 3
    assert texts(document, pieces)[0].startswith("# Gates\n\nThe river")
    assert {piece.headings for piece in pieces} == {("Gates",)}
    assert max(piece.n_tokens for piece in pieces) <= 256


def test_code_that_fits_is_not_cut(structure: Structure) -> None:
    code = "```\n" + "\n\n".join("open the gate" for _ in range(12)) + "\n```"
    document = parse_markdown(f"# A\n\n{PARAGRAPH}\n\n{PARAGRAPH}\n\n{code}\n\n{PARAGRAPH}\n")

    assert sum(code in text for text in texts(document, structure(document))) == 1


@pytest.mark.parametrize(
    ("headings", "kept"),
    [
        (("a" * 20, "b" * 20, "c" * 20), ("a" * 20, "b" * 20, "c" * 20)),
        (("a" * 20, "b" * 40, "c" * 20), ("b" * 40, "c" * 20)),
        (("a" * 20, "b" * 20, "c" * 90), ("c" * 63,)),
    ],
)
def test_of_a_long_heading_path_the_inner_end_is_kept(
    structure: Structure, headings: tuple[str, ...], kept: tuple[str, ...]
) -> None:
    lines = [f"{'#' * (level + 1)} {heading}\n\n" for level, heading in enumerate(headings)]

    pieces = structure(parse_markdown("".join(lines) + "water"))

    assert pieces[0].headings == kept
    assert max(piece.n_tokens for piece in pieces) <= 256


def test_what_costs_no_tokens_is_bounded_all_the_same(structure: Structure) -> None:
    document = parse_plain("a" + " " * 50_000 + "b" + "\u6f22" * 10 + "x" * 20_000)

    pieces = structure(document)

    assert max(piece.end - piece.start for piece in pieces) <= 4_000
    assert "".join("".join(texts(document, pieces)).split()) == "".join(document.text.split())


def test_a_document_without_words_has_no_chunks(structure: Structure) -> None:
    assert structure(parse_plain(" \n\t\n")) == ()


def test_20_000_chunks_are_taken_and_one_more_is_refused(structure: Structure) -> None:
    def headings(n: int) -> Document:
        return parse_markdown("".join(f"# {i}\n\nwater {i}\n\n" for i in range(n)))

    assert len(structure(headings(20_000))) == 20_000
    with pytest.raises(Unprocessable, match=r"20,001 chunks.*20,000: split the document") as caught:
        structure(headings(20_001))
    assert caught.value.reason == "too_many_chunks"
