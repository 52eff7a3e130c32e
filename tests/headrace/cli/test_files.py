from pathlib import Path

import pytest

from headrace.cli.files import DOCUMENT_MAX_BYTES, Found, Readable, Rejected, find_files, read_file


def ids(*arguments: str) -> list[str]:
    return [each.id for each in find_files(arguments, "kb") if isinstance(each, Found)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.md", "a.md", "guide/start.md", "guide/.draft.md", ".git/config.md", "guide/notes.txt"):
        path = tmp_path / "docs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}")
    return tmp_path / "docs"


def test_an_id_is_collection_and_path_relative_to_the_folder_without_hidden_files(tree: Path) -> None:
    assert ids(str(tree)) == ["kb/a.md", "kb/b.md", "kb/guide/notes.txt", "kb/guide/start.md"]


def test_a_file_has_its_name_as_id(tree: Path) -> None:
    assert ids(str(tree / "guide" / "start.md")) == ["kb/start.md"]


def test_a_glob_gives_ids_relative_to_its_fixed_folders(tree: Path) -> None:
    assert ids(f"{tree}/**/*.md") == ["kb/a.md", "kb/b.md", "kb/guide/start.md"]
    assert ids(f"{tree}/guide/*.txt") == ["kb/notes.txt"]


def test_a_file_named_twice_is_taken_once(tree: Path) -> None:
    assert ids(str(tree), str(tree / "a.md")) == ["kb/a.md", "kb/b.md", "kb/guide/notes.txt", "kb/guide/start.md"]


def test_two_files_of_one_id_are_not_mixed_up(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.md").write_text("# other")

    found = list(find_files([str(tree / "a.md"), str(tmp_path / "other")], "kb"))

    assert isinstance(found[0], Found)
    assert isinstance(found[1], Rejected)
    assert "different --collection names" in found[1].message


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("nowhere.md", "no such file or folder"),
        ("nowhere/*.md", "no file matches this pattern"),
        (".", "no visible file"),
    ],
)
def test_an_argument_that_gives_nothing_is_reported(
    argument: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    (found,) = find_files([argument], "kb")

    assert isinstance(found, Rejected)
    assert message in found.message


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("a.md", b" \n", "empty"),
        ("a.txt", b"x" * (DOCUMENT_MAX_BYTES + 1), "20971521 bytes, the most is 20971520"),
    ],
)
def test_a_file_that_cannot_be_a_document_is_rejected_with_a_reason(
    name: str, raw: bytes, message: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(raw)

    found = read_file(Found(path=path, id="kb/a", named=True))

    assert isinstance(found, Rejected)
    assert message in found.message
    assert not found.skipped


def test_an_unknown_suffix_is_skipped_inside_a_folder_and_sent_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("all:")

    found = read_file(Found(path=tmp_path / "Makefile", id="kb/Makefile", named=False))
    named = read_file(Found(path=tmp_path / "Makefile", id="kb/Makefile", named=True))

    assert isinstance(found, Rejected)
    assert found.skipped
    assert named == Readable(path=tmp_path / "Makefile", id="kb/Makefile", content=b"all:")


@pytest.mark.parametrize("name", ["a.PDF", "a.docx", "a.rst", "a.eml", "a.xlsx"])
def test_a_file_of_any_known_format_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbfhello\x00")

    found = read_file(Found(path=path, id="kb/a", named=False))

    assert found == Readable(path=path, id="kb/a", content=b"\xef\xbb\xbfhello\x00")


def test_a_path_that_makes_no_id_is_rejected(tmp_path: Path) -> None:
    found = read_file(Found(path=tmp_path / "a.md", id="kb/" + "x" * 510, named=False))

    assert isinstance(found, Rejected)
    assert "513 bytes" in found.message


def test_hidden_files_and_folders_are_named_as_skipped(tree: Path) -> None:
    skipped = [found for found in find_files([str(tree)], "kb") if isinstance(found, Rejected) and found.skipped]

    assert [rejected.path.name for rejected in skipped] == [".git", ".draft.md"]
    assert all("hidden" in rejected.message for rejected in skipped)
