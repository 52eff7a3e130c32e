"""What every chunker does, with every parser, on any text."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streams.chunk.chunkers import CHUNKERS, Chunker, make_chunker
from streams.chunk.chunkers.bounds import whole_tokenizer
from streams.chunk.document import normalised
from streams.chunk.parsers import PARSERS
from streams.errors import Unprocessable
from tests.streams.chunk.vocabulary import tokenizer_file

MARKS = st.sampled_from(
    [
        "# ",
        "\n## ",
        "\n\n",
        "\n",
        "- ",
        "1. ",
        "```\n",
        "| a | b |\n",
        "---\n",
        "> ",
        ". ",
        "! ",
        "<p>",
        "<table><tr><td>",
        "</p>",
        "<pre>",
        "    ",
        "e\u0301",
        "\U0001f600",
        "\u6f22\u3002",
        "\r\n",
        "\x0b",
        "\u2028",
        "word " * 60,
        "x" * 300,
    ]
)
NAMES = (*CHUNKERS, "structure-16")
TEXTS = st.lists(st.one_of(MARKS, st.text(max_size=30)), max_size=30).map("".join)


@pytest.fixture(scope="module")
def chunkers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Chunker]:
    path: Path = tokenizer_file(tmp_path_factory.mktemp("tokenizer"))
    return {name: make_chunker(name, whole_tokenizer(path)) for name in NAMES}


@pytest.mark.parametrize("content_type", PARSERS)
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_chunks_are_ordered_bounded_and_made_of_sentences(
    chunkers: Mapping[str, Chunker], name: str, content_type: str, text: str
) -> None:
    try:
        document = PARSERS[content_type](normalised(text))
    except Unprocessable:  # no JSON, no XML
        return

    pieces = chunkers[name](document)

    assert bool(pieces) == bool(document.text.strip())
    end = 0
    for piece in pieces:
        assert end <= piece.start < piece.end <= len(document.text)
        assert not document.text[end : piece.start].strip()
        end = piece.end
        assert 2 <= piece.n_tokens <= 256
        assert piece.sentences
        place = 0
        for first, last in piece.sentences:
            assert place <= first < last <= piece.end - piece.start
            place = last
    assert not document.text[end:].strip()
    assert chunkers[name](document) == pieces


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("tokens")])
def test_an_edit_of_one_section_leaves_the_others_chunks_as_they_were(
    chunkers: Mapping[str, Chunker], name: str
) -> None:
    sections = [f"# Section {n}\n\n" + f"Water {n} opens the gate. " * 20 for n in range(10)]
    edited = [*sections[:4], "# Section 4\n\nIt is dry.", *sections[5:]]

    def said(parts: list[str]) -> set[str]:
        document = PARSERS["text/markdown"]("\n\n".join(parts))
        return {document.text[piece.start : piece.end] for piece in chunkers[name](document)}

    before, after = said(sections), said(edited)

    assert after - before == {"# Section 4\n\nIt is dry."}


def test_windows_of_tokens_before_an_edit_are_as_they_were(chunkers: Mapping[str, Chunker]) -> None:
    text = "# A\n\n" + "The river opens the stone gate. " * 200
    first, second = (PARSERS["text/markdown"](whole) for whole in (text + "More water.", text + "Less water."))

    before, after = chunkers["tokens"](first), chunkers["tokens"](second)

    assert before[:-1] == after[:-1]
    assert len(before) > 5
