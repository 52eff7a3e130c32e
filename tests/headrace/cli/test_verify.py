"""`headrace verify` against a fake gateway."""

import json
from typing import Any

import pytest

from tests.headrace.cli.conftest import Headrace
from tests.headrace.fake_gateway import FakeGateway

CLEAN = {"n_documents": 3, "n_views": 2, "silent_views": [], "n_differences": 0, "kinds": {}}
DIFFERENT = CLEAN | {"n_differences": 2, "kinds": {"orphaned": 1, "chunks_missing": 1}}


def verification(state: str, progress: dict[str, Any] | None = None, *findings: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "0199f0a4-7c1e-7cc0-8a55-0d8f9c3c7b11",
        "repair": False,
        "state": state,
        "why": "KeyError; see the log of the operator stage" if state == "failed" else None,
        "progress": progress or {},
        "findings": list(findings),
    }


def finding(kind: str, document: str, reissued_at: str | None = None, seen_by: str = "operator") -> dict[str, Any]:
    return {
        "kind": kind,
        "tenant": "acme",
        "document": document,
        "version": 3,
        "detail": "1 of 2 chunks",
        "seen_by": seen_by,
        "reissued_at": reissued_at,
    }


def test_no_difference_is_waited_for_and_said(fake: FakeGateway, headrace: Headrace) -> None:
    fake.verification = [verification("asked"), verification("running"), verification("finished", CLEAN)]

    result = headrace("verify")

    assert (result.exit_code, result.stdout) == (0, "documents 3 · lexical views 2 · differences 0\n")
    assert fake.repairs == [False]


def test_differences_are_listed_with_the_way_to_mend_them(fake: FakeGateway, headrace: Headrace) -> None:
    found = [finding("chunks_missing", "a[b].md"), finding("orphaned", "c.md")]
    fake.verification = [verification("finished", DIFFERENT, *found)]

    result = headrace("verify")

    assert result.exit_code == 1
    for said in (
        "chunks_missing  acme/a[b].md",
        "orphaned        acme/c.md",
        "documents 3 · lexical views 2 · differences 2: 1 chunks_missing, 1 orphaned",
        "headrace verify --repair",
    ):
        assert said in result.stdout


def test_what_is_done_again_is_said(fake: FakeGateway, headrace: Headrace) -> None:
    done = finding("orphaned", "c.md", "2026-11-26T18:00:00Z")
    fake.verification = [verification("asked"), verification("finished", DIFFERENT, done)]

    result = headrace("verify", "--repair")

    assert (result.exit_code, fake.repairs) == (1, [True])
    assert "done again" in result.stdout
    assert "--repair" not in result.stdout


def test_a_view_that_differs_is_named(fake: FakeGateway, headrace: Headrace) -> None:
    fake.verification = [verification("finished", DIFFERENT, finding("view_differs", "c.md", seen_by="host:/data/0"))]

    assert "1 of 2 chunks (host:/data/0)" in headrace("verify").stdout


def test_a_view_that_did_not_answer_is_named(fake: FakeGateway, headrace: Headrace) -> None:
    fake.verification = [verification("finished", CLEAN | {"n_views": 1, "silent_views": ["host:/data/[1]"]})]

    result = headrace("verify")

    assert result.exit_code == 1
    assert "the lexical view host:/data/[1] did not answer" in " ".join(result.stderr.split())
    assert "differences 0" in result.stdout


def test_one_that_failed_says_why(fake: FakeGateway, headrace: Headrace) -> None:
    fake.verification = [verification("failed")]

    result = headrace("verify")

    assert (result.exit_code, result.stdout) == (1, "")
    assert "is failed: KeyError; see the log of the operator stage" in " ".join(result.stderr.split())


def test_one_that_has_no_end_is_not_waited_for_longer_than_said(fake: FakeGateway, headrace: Headrace) -> None:
    fake.verification = [verification("running")]

    result = headrace("verify", "--timeout", "1")

    assert result.exit_code == 1
    assert "is running: it has not come to an end" in " ".join(result.stderr.split())


@pytest.mark.parametrize(("progress", "code"), [(CLEAN, 0), (CLEAN | {"silent_views": ["w"]}, 1)])
def test_scripts_get_one_document(fake: FakeGateway, headrace: Headrace, progress: dict[str, Any], code: int) -> None:
    fake.verification = [verification("finished", progress)]

    result = headrace("verify", "--json")

    assert (result.exit_code, json.loads(result.stdout)["progress"]) == (code, progress)


def test_a_bad_timeout_is_a_usage_error(headrace: Headrace) -> None:
    assert headrace("verify", "--timeout", "0").exit_code == 2
