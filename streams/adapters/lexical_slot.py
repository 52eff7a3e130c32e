"""Gives each process on a machine a folder of its own for its lexical view, the same one again after a restart."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import filelock


@contextmanager
def own_slot(parent: Path) -> Iterator[Path]:
    """Hold the first folder `parent/0`, `parent/1` ... that no living process holds, while the block runs."""
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for number in count():
        lock = filelock.FileLock(parent / f"{number}.lock", blocking=False)
        try:
            with lock:
                yield parent / str(number)
                return
        except filelock.Timeout:
            continue
