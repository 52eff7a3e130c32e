import pytest

from schemas.events import Answer, Citation, Evidence
from streams.generate.extractive import Extractive, is_prose
from tests.streams.generate.evidence import passage


async def answered(question: str, *evidence: Evidence, **numbers: float) -> Answer:
    """Return the answer, having seen that the pieces streamed are its text."""
    outs = [out async for out in Extractive(**numbers)(question, evidence)]  # type: ignore[arg-type]
    answer = outs[-1]
    assert isinstance(answer, Answer)
    assert "".join(out for out in outs if isinstance(out, str)) == answer.text
    return answer


async def test_the_supported_sentence_is_shown_with_its_mark_and_place() -> None:
    answer = await answered(
        "When was the dam finished?",
        passage(
            ("The river is long and cold.", 0.2),
            ("The dam was finished in 1936.", 0.8),
            title="Dams",
            uri="https://example.org/dams",
        ),
    )

    assert answer.text == "The dam was finished in 1936. [1]"
    assert not answer.abstained
    assert answer.citations == [
        Citation(
            marker=1,
            document="guide",
            chunk="guide-chunk",
            quote="The dam was finished in 1936.",
            start=1028,
            end=1057,
            title="Dams",
            uri="https://example.org/dams",
        )
    ]
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.model) == (0, 0, "extractive")


async def test_weak_support_gives_an_honest_abstention() -> None:
    answer = await answered("When was the dam finished?", passage(("The river is long and cold.", 0.2)))

    assert answer.abstained
    assert answer.text == "The documents do not say."
    assert answer.citations == []


async def test_no_evidence_gives_an_abstention() -> None:
    assert (await answered("When was the dam finished?")).abstained


async def test_the_rare_word_of_the_question_decides_between_similar_sentences() -> None:
    answer = await answered(
        "Who built the Karuma dam?",
        passage(("The Hoover dam was built by six firms.", 0.62), document="hoover"),
        passage(("The Karuma dam was built by one firm.", 0.6), document="karuma"),
        margin=0.05,
    )

    assert [citation.document for citation in answer.citations] == ["karuma"]


async def test_close_sentences_follow_and_keep_their_order_in_the_passage() -> None:
    answer = await answered(
        "How is the gate opened?",
        passage(("First the gate pump is started.", 0.7), ("Then the gate is opened by a lever.", 0.8)),
        margin=0.4,
    )

    assert answer.text == "First the gate pump is started. [1] Then the gate is opened by a lever. [2]"
    assert [citation.start for citation in answer.citations] == [1000, 1032]


async def test_at_most_three_sentences_are_shown() -> None:
    sentences = [(f"The gate number {word} is opened by a lever.", 0.8) for word in ("one", "two", "six", "ten")]

    assert len((await answered("How is the gate opened?", passage(*sentences), margin=1.0)).citations) == 3


async def test_the_same_sentence_of_two_documents_is_shown_once() -> None:
    answer = await answered(
        "How is the gate opened?",
        passage(("The gate is opened by a lever.", 0.8), document="a"),
        passage(("The gate is opened by a lever.", 0.8), document="b"),
    )

    assert [citation.document for citation in answer.citations] == ["a"]


async def test_headings_questions_and_code_are_left_out() -> None:
    answer = await answered(
        "How is the gate opened?",
        passage(
            ("# Gate opened", 0.9),
            ("How is the gate opened?", 0.99),
            ("gate.open(lever=1); // {[()]} == $x", 0.9),
            ("A lever opens the gate.", 0.7),
        ),
    )

    assert answer.text == "A lever opens the gate. [1]"


async def test_what_can_stand_alone_is_prose() -> None:
    assert is_prose("The gate is opened.")
    assert is_prose("Öffnet das Tor mit dem Hebel")
    assert not is_prose("# The gate is opened")
    assert not is_prose("Gate opening")
    assert not is_prose("| gate | lever | state |")
    assert not is_prose("1 2 3 4 5 6 7 a b")
    assert not is_prose("word " * 200)


async def test_where_nothing_is_prose_the_best_of_it_is_shown() -> None:
    answer = await answered("retention.ms default", passage(("retention.ms=604800000", 0.8)))

    assert answer.text == "retention.ms=604800000 [1]"


@pytest.mark.parametrize("mark", ["- ", "* ", "1. ", "> - ", "12) "])
async def test_a_list_mark_is_not_quoted(mark: str) -> None:
    answer = await answered("How is the gate opened?", passage((f"{mark}The gate is opened by a lever.", 0.8)))

    (citation,) = answer.citations
    assert citation.quote == "The gate is opened by a lever."
    assert (citation.start, citation.end) == (1000 + len(mark), 1030 + len(mark))


async def test_a_line_break_in_a_sentence_is_quoted_as_it_is_and_told_as_a_space() -> None:
    answer = await answered("How is the gate opened?", passage(("The gate is opened\nby a lever.", 0.8)))

    assert answer.text == "The gate is opened by a lever. [1]"
    assert answer.citations[0].quote == "The gate is opened\nby a lever."


async def test_a_passage_without_sentences_counts_as_one() -> None:
    whole = passage(("The gate is opened by a lever.", 0.8), sentences=[], sentence_scores=[])

    assert (await answered("How is the gate opened?", whole)).text == "The gate is opened by a lever. [1]"


async def test_the_same_evidence_gives_the_same_answer() -> None:
    evidence = [passage((f"The gate {n} is opened by a lever.", 0.7), document=f"d{n}") for n in range(5)]

    assert await answered("How is the gate opened?", *evidence) == await answered("How is the gate opened?", *evidence)
