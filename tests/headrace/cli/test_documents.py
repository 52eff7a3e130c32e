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


def test_patch_sends_what_changes_and_waits_for_it(fake: FakeGateway, headrace: Headrace) -> None:
    result = headrace(
        "documents",
        "patch",
        "kb/a.md",
        *("--set", "year=2024", "--set", "team=ops", "--set", 'tags=["a", "b"]', "--set", "code='007'"),
        *("--set", 'zip="0815"', "--unset", "draft", "--acl", "staff, ops", "--title", "", "-c", "kb"),
    )

    assert (result.exit_code, result.stdout) == (0, "changed kb/a.md\n")
    metadata = {"year": 2024, "team": "ops", "tags": ["a", "b"], "code": "'007'", "zip": "0815", "draft": None}
    assert fake.patches == [
        ("kb/a.md", {"metadata": metadata, "acl": ["staff", "ops"], "title": None, "collection": "kb"})
    ]


def test_patch_for_everyone_is_an_acl_of_null(fake: FakeGateway, headrace: Headrace) -> None:
    result = headrace("documents", "patch", "kb/a.md", "--everyone", "--no-wait", "--json")

    assert json.loads(result.stdout) == {"id": "kb/a.md", "status": "sent", "submission": "0:3"}
    assert fake.patches == [("kb/a.md", {"acl": None})]


def test_patch_says_why_it_failed(fake: FakeGateway, headrace: Headrace) -> None:
    fake.failing["kb/a.md"] = ("no_document", "there is no document")

    result = headrace("documents", "patch", "kb/a.md", "--set", "a=1")

    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "failed kb/a.md: there is no document\n")


def test_patch_that_is_not_done_in_time_says_so(fake: FakeGateway, headrace: Headrace) -> None:
    fake.stuck.add("kb/a.md")

    result = headrace("documents", "patch", "kb/a.md", "--set", "a=1", "--timeout", "0", "--json")

    assert (result.exit_code, json.loads(result.stdout)["status"]) == (1, "submitted")


def test_patch_of_an_unknown_document_is_refused(headrace: Headrace) -> None:
    assert headrace("documents", "patch", "kb/x.md", "--set", "a=1").exit_code == 4


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ((), "nothing to change"),
        (("--set", "year"), "not FIELD=VALUE"),
        (("--set", "=1"), "not FIELD=VALUE"),
        (("--set", "a=null"), "--unset a"),
        (("--set", 'a={"b": 1}'), "nested"),
        (("--set", "a=1", "--unset", "a"), "both name 'a'"),
        (("--acl", "staff,,ops"), "names no group"),
        (("--acl", "staff", "--everyone"), "contradict"),
    ],
)
def test_options_of_patch_that_cannot_be_meant_are_usage_errors(
    fake: FakeGateway, headrace: Headrace, options: tuple[str, ...], complaint: str
) -> None:
    result = headrace("documents", "patch", "kb/a.md", *options)

    assert result.exit_code == 2
    assert complaint in " ".join(result.stderr.replace("│", " ").split())
    assert fake.patches == []
