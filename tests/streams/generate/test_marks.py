from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streams.generate.marks import MarkFilter, Use

PARTS = [
    "[",
    "]",
    "1",
    "2",
    "7",
    "12",
    ",",
    ";",
    " ",
    "  ",
    "\n",
    "\t",
    "`",
    "```",
    "a",
    "word ",
    ".",
    "[1]",
    "[9]",
    "[1, 2]",
]
TEXTS = st.lists(st.sampled_from(PARTS), max_size=30).map("".join)


def read(*pieces: str, n_passages: int = 3) -> tuple[str, list[Use], int]:
    """Return what came out, having seen that it is what the filter says it told."""
    marks = MarkFilter(n_passages=n_passages)
    out = "".join([marks.feed(piece) for piece in pieces] + [marks.close()])
    assert out == marks.text
    return out, marks.uses, marks.n_invented


@pytest.mark.parametrize(
    ("text", "out", "uses", "n_invented"),
    [
        ("It is open. [1]", "It is open. [1]", [Use(1, 12)], 0),
        ("It is open [4].", "It is open.", [], 1),
        ("It is open [0].", "It is open.", [], 1),
        ("It [1, 2] is [3][1].", "It [1][2] is [3][1].", [Use(1, 3), Use(2, 6), Use(3, 13), Use(1, 16)], 0),
        ("It [1; 9,2,9] is.", "It [1][2] is.", [Use(1, 3), Use(2, 6)], 1),
        ("It [ 01 ] is.", "It [1] is.", [Use(1, 3)], 0),
        ("It [1,\n2] is.", "It [1][2] is.", [Use(1, 3), Use(2, 6)], 0),
        ("Two.\n\n[8] Three.", "Two.\n\n Three.", [], 1),
        ("Brackets [a], [1a], [], [1,] and [ stay.", "Brackets [a], [1a], [], [1,] and [ stay.", [], 0),
        ("[[1]]", "[[1]]", [Use(1, 1)], 0),
        ("In code `a[9]` and b[9].", "In code `a[9]` and b.", [], 1),
        ("```\na[9] = `\n```\nb[9]", "```\na[9] = `\n```\nb", [], 1),
        ("A stray ` is forgotten.\nSo [9] this.", "A stray ` is forgotten.\nSo this.", [], 1),
        (" \n It is. \n", "It is.", [], 0),
        ("[9]", "", [], 1),
        ("It is [1", "It is [1", [], 0),
        ("[99999999999999999999]", "", [], 1),
        ("٣ [٣]", "٣ [٣]", [], 0),
    ],
)
def test_marks_of_passages_stay_and_others_go(text: str, out: str, uses: list[Use], n_invented: int) -> None:
    assert read(text) == (out, uses, n_invented)


def test_a_mark_split_over_tokens_is_one_mark() -> None:
    assert read("Open. [", "1", "2]", " Shut", ". [2", "]", n_passages=12) == (
        "Open. [12] Shut. [2]",
        [Use(12, 6), Use(2, 17)],
        0,
    )


def test_text_is_not_held_back_longer_than_a_mark_may_begin_there() -> None:
    marks = MarkFilter(n_passages=3)

    assert [marks.feed(piece) for piece in ("The ", "gate [", "9", "]", " is", " x[", "y")] == [
        "The",
        " gate",
        "",
        "",
        " is",
        " x",
        "[y",
    ]


@given(text=TEXTS, data=st.data())
@example(text="a `[9]` b [9]", data=None)
def test_the_same_text_comes_out_however_it_is_cut(text: str, data: st.DataObject | None) -> None:
    whole = read(text)
    assert read(*text) == whole
    if data is not None:
        cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=8).map(sorted))
        places = [0, *cuts, len(text)]
        assert read(*(text[a:b] for a, b in pairwise(places))) == whole


@given(text=TEXTS)
def test_every_use_is_in_the_text_and_stands_for_a_passage(text: str) -> None:
    out, uses, _ = read(text)

    assert all(out.startswith(f"[{use.marker}]", use.start) and 1 <= use.marker <= 3 for use in uses)
    assert out == out.strip()


@given(text=TEXTS)
@example("[1[9]]")
@example("[1 [9], [2], 3]")
def test_what_came_out_goes_through_unchanged(text: str) -> None:
    out, uses, _ = read(text.replace("`", ""))

    assert read(out) == (out, uses, 0)
