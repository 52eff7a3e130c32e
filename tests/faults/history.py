"""The append-only record of a fault run: what was asked, acknowledged, seen and killed, one JSON line each, in
order of time.
"""

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any


class History:
    """Writes lines as things happen; a line is on disk before the next step of the run.

    `counts`: how many entries of each kind there are.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.counts: Counter[str] = Counter()
        self._file = path.open("a", buffering=1)

    def add(self, kind: str, **fields: Any) -> None:
        """Append one entry; `at` is seconds on the monotonic clock of this machine."""
        self.counts[kind] += 1
        self._file.write(json.dumps({"at": time.monotonic(), "kind": kind, **fields}) + "\n")

    async def reached(self, kind: str, n: int, within_s: float) -> None:
        """Wait until there are so many entries of a kind.

        Raises:
            TimeoutError: that took too long.
        """
        async with asyncio.timeout(within_s):
            while self.counts[kind] < n:  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def read(path: Path) -> list[dict[str, Any]]:
    """Return all entries, oldest first."""
    return [json.loads(line) for line in path.read_text().splitlines()]
