"""Logs of the parts: their last lines, following them, and keeping them small."""

import shutil
from collections.abc import Iterator
from pathlib import Path

LOG_MAX_BYTES = 10 * 1024 * 1024
TAIL_BYTES = 64 * 1024


def rotate(log: Path, *, max_bytes: int = LOG_MAX_BYTES) -> bool:
    """Move what a too large log holds to `<name>.1`, of which one is kept, and say whether that was done.

    The file itself stays, because its part has it open (for appending) and cannot be asked to open another.
    """
    if not log.exists() or log.stat().st_size <= max_bytes:
        return False
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    with log.open("r+b") as file:
        file.truncate(0)
    return True


def last_lines(log: Path, n: int) -> list[str]:
    """Return the last n lines, fewer where the log is shorter or they are longer than 64 KiB in all."""
    if not log.exists():
        return []
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - TAIL_BYTES))
        return file.read().decode(errors="replace").splitlines()[-n:]


class Follower:
    """Reads what is added to a log, beginning at its present end; survives its being rotated and not yet there."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._place = log.stat().st_size if log.exists() else 0
        self._rest = b""

    def lines(self) -> Iterator[str]:
        """Yield the lines completed since the last call."""
        if not self._log.exists():
            return
        with self._log.open("rb") as file:
            if file.seek(0, 2) < self._place:
                self._place, self._rest = 0, b""
            file.seek(self._place)
            added = file.read()
        self._place += len(added)
        *whole, self._rest = (self._rest + added).split(b"\n")
        yield from (line.decode(errors="replace") for line in whole)
