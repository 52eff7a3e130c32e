import json

import pytest

from tests.headrace.cli.conftest import Headrace
from tests.headrace.fake_gateway import FakeGateway


@pytest.fixture(autouse=True)
def documents(fake: FakeGateway) -> None:
    fake.ingest([{"id": f"kb/{name}.md", "text": f"text of {name}"} for name in ("a", "b", "c")])


def test_list_follows_the_cursor_up_to_the_limit(headrace: Headrace) -> None:
    found = json.loads(headrace("documents", "list", "--limit", "2", "--json").stdout)

    assert [each["id"] for each in found["documents"]] == ["kb/a.md", "kb/b.md"]
    assert found["more"] is True


def test_list_shows_the_reason_of_a_failure(fake: FakeGateway, headrace: Headrace) -> None:
    fake.failing["kb/b.md"] = ("not_utf8", "byte 0xff is not UTF-8")

    assert "byte 0xff is not UTF-8" in headrace("documents", "list").stdout


def test_content_prints_the_parsed_text(headrace: Headrace) -> None:
    assert headrace("documents", "content", "kb/a.md").stdout == "text of a\n"


def test_show_of_an_unknown_document_is_refused(headrace: Headrace) -> None:
    result = headrace("documents", "show", "kb/x.md", "--json")

    assert result.exit_code == 4
    assert json.loads(result.stdout)["status"] == 404


def test_delete_waits_and_names_what_it_did_not_find(headrace: Headrace) -> None:
    result = headrace("documents", "delete", "kb/a.md", "kb/x.md", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["documents"] == [
        {"id": "kb/a.md", "status": "deleted"},
        {"id": "kb/x.md", "status": "unknown"},
    ]
