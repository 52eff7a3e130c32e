import json
from pathlib import Path

from headrace.cli import upload
from headrace.cli.files import Readable
from headrace.client import Client
from tests.headrace.cli.conftest import Headrace
from tests.headrace.fake_gateway import KEY, FakeGateway


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.md").write_text(text)
    return folder


def test_a_folder_becomes_searchable_and_the_exit_code_is_0(
    fake: FakeGateway, headrace: Headrace, tmp_path: Path
) -> None:
    result = headrace("ingest", str(write(tmp_path, a="# A", b="# B")), "-c", "kb")

    assert result.exit_code == 0
    assert "accepted 2 · searchable 2 · failed 0" in result.output
    assert fake.documents["kb/a.md"] == {
        "id": "kb/a.md",
        "content": b"# A",
        "filename": "a.md",
        "collection": "kb",
        "metadata": {"path": "a.md"},
    }


def test_who_may_read_the_documents_goes_with_them(fake: FakeGateway, headrace: Headrace, tmp_path: Path) -> None:
    result = headrace("ingest", str(write(tmp_path, a="# A")), "--acl", "staff,ops")

    assert result.exit_code == 0
    assert fake.documents["default/a.md"]["acl"] == ["staff", "ops"]


def test_each_file_that_fails_is_reported_with_its_reason_and_the_others_go_on(
    fake: FakeGateway, headrace: Headrace, tmp_path: Path
) -> None:
    fake.failing["kb/b.md"] = ("parse_timeout", "parsing took over 60 s; split the document")
    fake.refused.add("kb/c.md")
    (tmp_path / "d.md").write_bytes(b" \n")

    result = headrace("ingest", str(write(tmp_path, a="# A", b="# B", c="# C")), "-c", "kb", "--json")

    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (report["accepted"], report["searchable"], report["failed"]) == (2, 1, 3)
    by_id = {each["id"]: each for each in report["documents"]}
    assert by_id["kb/b.md"]["reason"] == "parse_timeout"
    assert by_id["kb/c.md"]["message"] == "Invalid: document 'kb/c.md' is not acceptable"
    assert "it is empty" in by_id["kb/d.md"]["message"]


def test_a_busy_gateway_is_asked_again(fake: FakeGateway, headrace: Headrace, tmp_path: Path) -> None:
    fake.busy = 2

    result = headrace("ingest", str(write(tmp_path, a="# A")))

    assert result.exit_code == 0
    assert fake.batches == [["default/a.md"]]


def test_no_wait_ends_when_the_gateway_has_accepted(fake: FakeGateway, headrace: Headrace, tmp_path: Path) -> None:
    fake.stuck.add("default/a.md")

    result = headrace("ingest", str(write(tmp_path, a="# A")), "--no-wait")

    assert result.exit_code == 0
    assert "accepted 1 · searchable 0" in result.output


def test_what_is_not_searchable_in_time_is_named(fake: FakeGateway, headrace: Headrace, tmp_path: Path) -> None:
    fake.stuck.add("default/a.md")

    result = headrace("ingest", str(write(tmp_path, a="# A", b="# B")), "--timeout", "0")

    assert result.exit_code == 1
    assert "not searchable in time (it is submitted)" in result.output


def test_a_wrong_key_ends_with_code_4_and_no_trace(headrace: Headrace, tmp_path: Path) -> None:
    result = headrace("ingest", str(write(tmp_path, a="# A")), key="wrong")

    assert result.exit_code == 4
    assert "the API key is not known" in result.output
    assert "Traceback" not in result.output


def test_a_gateway_that_is_away_ends_with_code_3(headrace: Headrace, tmp_path: Path) -> None:
    result = headrace("ingest", str(write(tmp_path, a="# A")), "--url", "http://127.0.0.1:9")

    assert result.exit_code == 3
    assert "Try: headrace status" in result.output


def test_batches_are_bounded_in_number_and_bytes(fake: FakeGateway, tmp_path: Path) -> None:
    sizes = [1_500_000, 1_500_000] + [10] * 250
    files = []
    for n, size in enumerate(sizes):
        path = tmp_path / f"{n}.txt"
        files.append(Readable(path=path, id=f"kb/{n}", content=b"x" * size))

    with Client(fake.url, KEY) as client:
        upload.Upload(client=client, collection="kb", wait_s=10.0)(iter(files))

    assert [len(batch) for batch in fake.batches] == [1, 100, 100, 51]


def test_waiting_grows_longer_and_ends_in_time(fake: FakeGateway, tmp_path: Path) -> None:
    path = write(tmp_path, a="# A") / "a.md"
    fake.stuck.add("kb/a.md")
    clock = [0.0]
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(round(seconds, 2))
        clock[0] += seconds

    with Client(fake.url, KEY) as client:
        run = upload.Upload(client=client, collection="kb", wait_s=3.0, now=lambda: clock[0], sleep=sleep)
        (fate,) = run(iter([Readable(path=path, id="kb/a.md", content=b"# A")]))

    assert pauses == [0.1, 0.15, 0.23, 0.34, 0.51, 0.76, 1.0]
    assert fate.status == "submitted"
