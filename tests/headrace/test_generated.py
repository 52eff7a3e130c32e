from pathlib import Path

from headrace.generated import ROOT, files, stale
from schemas.generate import JSON_SCHEMAS


def test_every_generated_file_is_as_the_code_would_write_it() -> None:
    assert stale(ROOT, files()) == ([], []), "run: make schemas"


def test_a_changed_file_and_a_left_over_schema_are_found(tmp_path: Path) -> None:
    (tmp_path / JSON_SCHEMAS).mkdir(parents=True)
    (tmp_path / JSON_SCHEMAS / "Gone.v1.json").write_text("{}")
    (tmp_path / "kept.md").write_text("same")
    (tmp_path / "changed.md").write_text("old")

    differing, left_over = stale(tmp_path, {Path("kept.md"): "same", Path("changed.md"): "new"})

    assert differing == [Path("changed.md")]
    assert left_over == [JSON_SCHEMAS / "Gone.v1.json"]
