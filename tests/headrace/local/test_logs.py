"""Logs stay small and can be followed."""

from pathlib import Path

from headrace.local.logs import Follower, last_lines, rotate


def test_a_large_log_is_moved_away_while_its_part_writes_on(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    with log.open("ab", buffering=0) as part:
        part.write(b"old\n" * 10)
        assert rotate(log, max_bytes=39)
        part.write(b"new\n")

    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "part.log.1").read_bytes() == b"old\n" * 10
    assert not rotate(log, max_bytes=39)


def test_the_last_lines_of_a_short_a_long_and_no_log(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    assert last_lines(log, 2) == []
    log.write_text("a\nb\nc\n")
    assert last_lines(log, 2) == ["b", "c"]
    assert last_lines(log, 9) == ["a", "b", "c"]


def test_a_follower_gives_whole_lines_and_survives_rotation(tmp_path: Path) -> None:
    log = tmp_path / "part.log"
    follower = Follower(log)
    assert list(follower.lines()) == []
    log.write_text("one\ntw")
    assert list(follower.lines()) == ["one"]
    with log.open("a") as file:
        file.write("o\n")
    assert list(follower.lines()) == ["two"]
    log.write_text("x\n")
    assert list(follower.lines()) == ["x"]
