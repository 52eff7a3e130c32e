from streams.generate.marks import Use
from streams.generate.quotes import citations, claim
from tests.streams.generate.evidence import passage

GATE = passage(
    ("First the gate pump is started.", 0.7),
    ("Then the gate is opened by a lever.", 0.6),
    document="gate",
    title="Gates",
    uri="https://example.org/gates",
    page=4,
)
DAM = passage(("The dam was finished in 1936.", 0.3), ("It holds 4 km³ of water.", 0.2), document="dam")


def quoted(text: str, *uses: Use) -> list[tuple[int, str, int, int]]:
    return [(each.marker, each.quote, each.start, each.end) for each in citations(text, uses, [GATE, DAM])]


def test_the_sentence_that_shares_most_words_with_the_marked_one_is_quoted() -> None:
    text = "A lever opens the gate. [1] The dam was finished in 1936 [2]."

    assert quoted(text, Use(1, 24), Use(2, 57)) == [
        (1, "Then the gate is opened by a lever.", 1032, 1067),
        (2, "The dam was finished in 1936.", 1000, 1029),
    ]


def test_a_citation_says_where_it_stands() -> None:
    (cited,) = citations("A lever opens the gate. [1]", [Use(1, 24)], [GATE])

    assert (cited.document, cited.title, cited.uri, cited.page) == ("gate", "Gates", "https://example.org/gates", 4)
    assert GATE.text[cited.start - 1000 : cited.end - 1000] == cited.quote


def test_a_passage_marked_twice_is_cited_once_for_the_sentence_it_fits_best() -> None:
    text = "Something else. [1] A lever opens the gate. [1]"

    assert quoted(text, Use(1, 16), Use(1, 44)) == [(1, "Then the gate is opened by a lever.", 1032, 1067)]


def test_without_a_shared_word_the_sentence_closest_to_the_question_is_quoted() -> None:
    assert quoted("Yes. [1]", Use(1, 5)) == [(1, "First the gate pump is started.", 1000, 1031)]


def test_a_claim_is_the_sentence_before_its_mark() -> None:
    text = "The pump starts. [1][2] At 3.5 bar the gate opens [2], and shuts. [1]\nLast [1]"

    assert claim(text, 17) == "The pump starts."
    assert claim(text, 20) == "The pump starts."
    assert claim(text, 50) == "At 3.5 bar the gate opens"
    assert claim(text, 66) == "At 3.5 bar the gate opens, and shuts."
    assert claim(text, 75) == "Last"
