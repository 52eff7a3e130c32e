from streams.score.said import Said, said


def marked(text: str) -> list[tuple[str, set[int]]]:
    return [(sentence.text, set(sentence.marks)) for sentence in said(text)]


def test_a_mark_behind_a_full_stop_belongs_to_the_sentence_before_it() -> None:
    assert marked("The gate is of steel. [1] It opens at noon. [2]") == [
        ("The gate is of steel.", {1}),
        ("It opens at noon.", {2}),
    ]


def test_a_mark_before_a_full_stop_belongs_to_its_sentence() -> None:
    assert marked("The gate is of steel [1]. It opens at noon [2][13].") == [
        ("The gate is of steel.", {1}),
        ("It opens at noon.", {2, 13}),
    ]


def test_marks_inside_a_sentence_are_all_its_own() -> None:
    assert marked("Steel [1] and iron [3] rust.") == [("Steel and iron rust.", {1, 3})]


def test_a_sentence_without_a_mark_has_none() -> None:
    assert marked("It rusts. It is red. [2]") == [("It rusts.", set()), ("It is red.", {2})]


def test_a_mark_before_every_word_and_brackets_that_hold_no_number_are_no_marks_of_a_sentence() -> None:
    assert marked("[1] See list[i] there.") == [("See list[i] there.", set())]


def test_a_text_of_marks_alone_says_nothing() -> None:
    assert said(" [1] [2]") == []
    assert said("") == []


def test_equal_sentences_are_equal() -> None:
    assert said("Yes. [1]") == [Said("Yes.", frozenset({1}))]
