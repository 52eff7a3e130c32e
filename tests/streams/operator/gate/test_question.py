"""The golden set."""

from pathlib import Path

import pytest

from streams.operator.gate.measure import holds
from streams.operator.gate.question import Golden, golden, golden_lines

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("line", list(golden_lines()), ids=lambda line: line.question)
def test_the_expected_document_says_what_is_asked(line: Golden) -> None:
    # a passage must lie within a paragraph, or no chunker could keep it whole
    paragraphs = (ROOT / line.document).read_text().split("\n\n")

    assert holds(paragraphs, [line.passage])


def test_there_are_twenty_questions_over_several_documents() -> None:
    asked = golden("acme")

    assert len({question.text for question in asked}) == 20
    assert len({document for question in asked for document in question.relevant}) >= 12
    assert {(question.kind, question.set, question.tenant) for question in asked} == {("golden", "golden", "acme")}
