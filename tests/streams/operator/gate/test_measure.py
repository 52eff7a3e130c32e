"""What is measured of one question."""

import pytest

from streams.operator.gate.bench import Asked, Hit
from streams.operator.gate.measure import holds, likeness, measures, ndcg
from streams.operator.gate.question import Question


def asked(*documents: str, context: str = "", answer: str = "", abstained: bool = False) -> Asked:
    hits = [Hit(document=name, chunk=f"{name}{n}", text=name, score=-n) for n, name in enumerate(documents)]
    return Asked(hits=hits, context=[context], answer=answer, abstained=abstained, seconds=0.1)


def question(**labels: object) -> Question:
    return Question(set="s", kind="labelled", tenant="acme", text="?", **labels)  # type: ignore[arg-type]


def test_a_document_counts_at_its_first_passage_however_many_it_has() -> None:
    labelled = question(relevant={"b": 1})

    assert measures(labelled, asked("a", "a", "a", "b", "b"))["ndcg"] == pytest.approx(0.63093, abs=1e-5)
    assert measures(labelled, asked("a", "b"))["ndcg"] == pytest.approx(0.63093, abs=1e-5)


def test_grades_weigh_and_the_best_order_is_one() -> None:
    assert ndcg(["a", "b", "c"], {"a": 2, "c": 1}) == pytest.approx(2.5 / 2.63093, abs=1e-5)
    assert ndcg(["a", "c", "b"], {"a": 2, "c": 1}) == 1


def test_the_eleventh_document_is_not_found() -> None:
    names = [f"d{n}" for n in range(11)]

    found = measures(question(relevant={"d10": 1, "d0": 1}), asked(*names))

    assert found["recall"] == 0.5
    assert found["ndcg"] == pytest.approx(1 / 1.63093, abs=1e-5)


def test_the_right_document_without_the_words_that_answer_is_no_passage() -> None:
    labelled = question(relevant={"a": 1}, passage="Three gates, of steel.")

    whole = measures(labelled, asked("a", context="It has three   gates\nof Steel today"))
    torn = measures(labelled, asked("a", context="It has three gates"))

    assert (whole["ndcg"], whole["passage"]) == (1, 1)
    assert (torn["ndcg"], torn["passage"]) == (1, 0)


def test_words_are_held_whole() -> None:
    assert not holds(["there are 1136 sacks"], ["136"])
    assert holds(["there are (136) sacks"], ["136"])


def test_answers_stand_in_for_a_passage_and_are_looked_for_in_the_answer() -> None:
    labelled = question(answers=["four", "4"])

    assert measures(labelled, asked("a", context="he has 4 balls", answer="Norman has four [1]")) == {
        "answered": 1,
        "passage": 1,
        "answer": 1,
    }
    abstained = measures(labelled, asked("a", answer="not in the four documents", abstained=True))
    assert (abstained["answered"], abstained["answer"]) == (0, 0)


def test_without_labels_nothing_but_answering_is_measured() -> None:
    assert measures(question(), asked("a", answer="yes")) == {"answered": 1}


def test_likeness_is_of_documents_and_of_answers() -> None:
    base = asked("a", "a", "b", answer="steel gates are closed")
    candidate = asked("b", "c", answer="the gates were opened")

    assert likeness(base, base) == {"overlap": 1, "agreement": 1}
    assert likeness(base, candidate) == {"overlap": pytest.approx(1 / 3), "agreement": 0.25}
    assert likeness(asked(), asked()) == {"overlap": 1, "agreement": 1}
    assert likeness(base, asked("a", answer="The documents do not say.", abstained=True))["agreement"] == 0
