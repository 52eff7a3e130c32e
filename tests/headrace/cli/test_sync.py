"""A folder and what the stack holds of it."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.headrace.cli.conftest import Headrace
from tests.headrace.fake_gateway import FakeGateway


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    for name in ("a.md", "guide/b.md", "c.pdf"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}")
    return folder


def outcome(headrace: Headrace, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
    result = headrace("sync", *arguments, "--json")
    assert result.exit_code == exit_code, result.output
    return dict(json.loads(result.stdout))


def sent(fake: FakeGateway) -> list[list[str]]:
    """Return what was sent since the last call."""
    batches = [*fake.batches]
    fake.batches.clear()
    return batches


def test_a_folder_is_sent_once(fake: FakeGateway, headrace: Headrace, docs: Path) -> None:
    first = outcome(headrace, str(docs), "-c", "kb")

    assert (first["searchable"], sent(fake)) == (3, [["kb/a.md", "kb/c.pdf", "kb/guide/b.md"]])
    assert fake.documents["kb/guide/b.md"]["metadata"] == {
        "path": "guide/b.md",
        "sync": "docs",
        "sha256": hashlib.sha256(b"content of guide/b.md").hexdigest(),
    }

    second = outcome(headrace, str(docs), "-c", "kb")

    assert (second["unchanged"], second["accepted"], second["deleted"]) == (3, 0, 0)
    assert sent(fake) == []


def test_what_is_new_or_changed_is_sent_and_what_is_gone_is_deleted(
    fake: FakeGateway, headrace: Headrace, docs: Path
) -> None:
    outcome(headrace, str(docs))
    sent(fake)
    (docs / "a.md").write_text("changed")
    (docs / "new.md").write_text("new")
    (docs / "guide" / "b.md").unlink()
    (docs / "guide").rmdir()

    result = headrace("sync", str(docs))

    assert result.exit_code == 0, result.output
    assert sent(fake) == [["default/a.md", "default/new.md"]]
    assert "deleted default/guide/b.md" in result.output
    assert "accepted 2 · searchable 2 · failed 0 · unchanged 1 · deleted 1" in result.output
    assert sorted(fake.documents) == ["default/a.md", "default/c.pdf", "default/new.md"]


def test_only_documents_of_this_sync_are_deleted(fake: FakeGateway, headrace: Headrace, docs: Path) -> None:
    fake.ingest(
        [
            {"id": "default/by-hand.md", "collection": "default", "metadata": {"path": "by-hand.md"}},
            {"id": "default/x.md", "collection": "default", "metadata": {"path": "x.md", "sync": "other"}},
            {"id": "kb/gone.md", "collection": "kb", "metadata": {"path": "gone.md", "sync": "docs"}},
        ]
    )

    assert outcome(headrace, str(docs))["deleted"] == 0
    assert {"default/by-hand.md", "default/x.md", "kb/gone.md"} <= fake.documents.keys()


def test_a_document_of_another_sync_is_not_overwritten(fake: FakeGateway, headrace: Headrace, docs: Path) -> None:
    outcome(headrace, str(docs), "--name", "theirs")
    (docs / "a.md").write_text("mine")

    report = outcome(headrace, str(docs), "--name", "mine", exit_code=1)

    messages = [each["message"] for each in report["documents"]]
    assert "'default/a.md' is that of a document of sync 'theirs'; use another --collection" in messages[0]
    assert fake.documents["default/a.md"]["content"] == b"content of a.md"


def test_a_document_that_was_ingested_by_hand_is_taken_over(fake: FakeGateway, headrace: Headrace, docs: Path) -> None:
    headrace("ingest", str(docs))
    sent(fake)

    assert outcome(headrace, str(docs))["searchable"] == 3
    assert outcome(headrace, str(docs))["unchanged"] == 3


def test_what_others_said_of_a_document_stays_when_its_file_changes(
    fake: FakeGateway, headrace: Headrace, docs: Path
) -> None:
    outcome(headrace, str(docs))
    fake.documents["default/a.md"]["metadata"]["year"] = 2026
    fake.documents["default/a.md"]["acl"] = ["board"]
    assert outcome(headrace, str(docs))["unchanged"] == 3
    (docs / "a.md").write_text("changed")

    assert outcome(headrace, str(docs))["searchable"] == 1

    assert fake.documents["default/a.md"]["acl"] == ["board"]
    assert fake.documents["default/a.md"]["metadata"] == {
        "path": "a.md",
        "sync": "docs",
        "sha256": hashlib.sha256(b"changed").hexdigest(),
        "year": 2026,
    }


def test_who_may_read_all_of_them_is_said_once_and_held_to(fake: FakeGateway, headrace: Headrace, docs: Path) -> None:
    outcome(headrace, str(docs))
    sent(fake)

    assert outcome(headrace, str(docs), "--acl", "staff, ops")["searchable"] == 3
    assert {tuple(each["acl"]) for each in fake.documents.values()} == {("staff", "ops")}
    assert outcome(headrace, str(docs), "--acl", "ops,staff")["unchanged"] == 3
    assert outcome(headrace, str(docs))["unchanged"] == 3
    fake.documents["default/a.md"]["acl"] = None
    sent(fake)
    assert outcome(headrace, str(docs), "--acl", "staff,ops")["searchable"] == 1
    assert sent(fake) == [["default/a.md"]]
    refused = headrace("sync", str(docs), "--acl", "staff,,ops")
    assert (refused.exit_code, "names no group in a place" in " ".join(refused.output.split())) == (2, True)


def test_what_failed_is_sent_again(fake: FakeGateway, headrace: Headrace, docs: Path) -> None:
    fake.failing["default/c.pdf"] = ("malformed", "the file cannot be read as PDF")
    assert outcome(headrace, str(docs), exit_code=1)["failed"] == 1
    sent(fake)

    outcome(headrace, str(docs), exit_code=1)

    assert sent(fake) == [["default/c.pdf"]]


def test_a_file_that_cannot_be_read_keeps_its_document(
    fake: FakeGateway, headrace: Headrace, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome(headrace, str(docs))
    (docs / "a.md").unlink()
    (docs / "a.md").symlink_to(docs / "nowhere")  # there, but not to be read, even by root
    (docs / "c.pdf").write_bytes(b"")

    report = outcome(headrace, str(docs), exit_code=1)

    assert report["deleted"] == 0
    assert {"default/a.md", "default/c.pdf"} <= fake.documents.keys()


def test_a_dry_run_changes_nothing(fake: FakeGateway, headrace: Headrace, docs: Path) -> None:
    outcome(headrace, str(docs))
    (docs / "a.md").write_text("changed")
    (docs / "c.pdf").unlink()
    sent(fake)

    assert outcome(headrace, str(docs), "--dry-run") == {
        "would_send": ["default/a.md"],
        "would_delete": ["default/c.pdf"],
    }
    assert sent(fake) == []
    assert "default/c.pdf" in fake.documents
    assert "would send 1 · would delete 1" in headrace("sync", str(docs), "--dry-run").output


def test_an_empty_folder_deletes_only_if_that_is_meant(fake: FakeGateway, headrace: Headrace, docs: Path) -> None:
    outcome(headrace, str(docs))
    for path in (docs / "a.md", docs / "c.pdf", docs / "guide" / "b.md"):
        path.unlink()

    refused = headrace("sync", str(docs))

    assert refused.exit_code == 1
    assert "none of the 3 files of sync 'docs'" in refused.output
    assert len(fake.documents) == 3
    assert headrace("sync", str(docs), "--yes").exit_code == 1  # the folder is empty, which is said
    assert fake.documents == {}


def test_what_is_no_folder_is_refused(headrace: Headrace, docs: Path) -> None:
    assert headrace("sync", str(docs / "a.md")).exit_code == 2
    assert headrace("sync", str(docs / "nowhere")).exit_code == 2
