import re
from pathlib import Path

import pytest

from headrace.demo import QUESTIONS
from schemas.topics import STAGES
from tests.docs.tour import ROOT, tour

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
MAKE = re.compile(r"`make ([a-z-]+)`|^make ([a-z-]+)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert {a or b for a, b in MAKE.findall(page.read_text())} - targets == set()


def test_every_decision_is_in_the_list_of_decisions() -> None:
    listed = (ROOT / "docs" / "adr" / "README.md").read_text()

    assert [page.name for page in (ROOT / "docs" / "adr").glob("0*.md") if page.name not in listed] == []


def test_the_glossary_names_every_stage() -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text()

    assert [stage for stage in STAGES if stage not in glossary] == []


def test_the_documents_that_the_demo_expects_exist() -> None:
    assert [question.document for question in QUESTIONS if not (ROOT / question.document).is_file()] == []


def test_the_readme_has_a_tour() -> None:
    assert len(tour((ROOT / "README.md").read_text())) >= 6
