"""Where sentences stand."""

import pytest

from streams.text.sentences import Syntax, clipped, sentence_spans


def sentences(text: str, syntax: Syntax = "markdown") -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text, 0, len(text), syntax)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Wrapped over\nlines. Next.", ["Wrapped over\nlines.", "Next."]),
        (
            "See e.g. Dr. Smith, vs. version 1.2.3 of it. Then go.",
            ["See e.g. Dr. Smith, vs. version 1.2.3 of it.", "Then go."],
        ),
        ('He said "stop." Then left.', ['He said "stop."', "Then left."]),
        ("Wait... more. End", ["Wait... more.", "End"]),
        ("水門が開く。水が流れる。", ["水門が開く。", "水が流れる。"]),
        ("First paragraph\n\nSecond paragraph", ["First paragraph", "Second paragraph"]),
        ("Steps:\n- open it\n- close\n  it. Wait.\n1. first", ["Steps:", "open it", "close\n  it.", "Wait.", "first"]),
        ("| a | b |\n|---|---|\n| 1. | 2 |\n", ["| a | b |", "| 1. | 2 |"]),
        ("Run:\n```sh\nmake. It\n\nmake b\n```\nDone.", ["Run:", "```sh\nmake. It\n\nmake b\n```", "Done."]),
        ("````\n```\nx\n````\nAfter.", ["````\n```\nx\n````", "After."]),
        ("One.\n\n---\n\nTwo.", ["One.", "Two."]),
        ("> Quoted words.\n> Go on.", ["Quoted words.", "> Go on."]),
        ("", []),
    ],
)
def test_sentences_of_markdown(text: str, expected: list[str]) -> None:
    assert sentences(text) == expected


def test_plain_text_has_no_code() -> None:
    assert sentences("```\nOne. Two.\n```", "text") == ["```\nOne.", "Two."]


def test_a_sentence_is_cut_where_its_chunk_ends() -> None:
    text = "One two. Three four."

    assert clipped([(0, 8), (9, 20)], 4, 14, text) == ((0, 4), (5, 10))


def test_a_chunk_without_sentences_is_one_itself() -> None:
    assert clipped([], 0, 9, "# Heading") == ((0, 9),)
