"""A worker that dies of some records, each time that it handles them, and writes down that it does.

`DEATHS=FILE python -m tests.faults.killing_worker --stages intake,chunk`; a text that holds `kills-embed-by-exit` kills
in the embed stage. A line in the file is one death.
"""

import ctypes
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from schemas.events import EvidenceRetrieved
from streams.__main__ import main
from streams.runtime.record import Claim, Flush, Handler, Inbound, Outbound
from streams.runtime.stage import Stage
from streams.wiring import BUILDERS, Builder, Parts

VARIABLE: Final = "DEATHS"


def _exit() -> None:
    os._exit(1)


def _crash() -> None:
    """Read where nothing is, as a broken library does."""
    ctypes.string_at(0)


def _killed() -> None:
    """End as the kernel ends who takes too much memory."""
    os.kill(os.getpid(), signal.SIGKILL)


WAYS: Final[Mapping[str, Callable[[], None]]] = {"exit": _exit, "crash": _crash, "kill": _killed}


@dataclass(frozen=True, kw_only=True)
class Killing:
    """Dies at the first thing that a handler would do, and of a question once it is claimed, at its first token."""

    stage: str
    handler: Handler[Any]

    async def __call__(self, record: Inbound[Any]) -> AsyncIterator[Outbound | Flush | Claim]:
        """Do what the handler does with all other records."""
        way = self._way(record)
        if way is not None and self.stage != "generate":
            self._die(way)
        async with aclosing(self.handler(record)) as outputs:  # type: ignore[type-var]
            async for output in outputs:
                if way is not None and isinstance(output, Outbound):
                    self._die(way)
                yield output

    def _way(self, record: Inbound[Any]) -> str | None:
        text = record.raw or b""
        if isinstance(record.event, EvidenceRetrieved):
            # its evidence holds texts of documents
            text = record.event.text.encode()
        found = re.search(f"kills-{self.stage}-by-([a-z]+)".encode(), text)
        return found[1].decode() if found else None

    def _die(self, way: str) -> None:
        with Path(os.environ[VARIABLE]).open("a") as deaths:
            deaths.write(f"{self.stage}\n")
        WAYS[way]()


def _built(name: str) -> Builder:
    def build(parts: Parts) -> Stage:
        stage = BUILDERS[name](parts)
        return replace(stage, handler=Killing(stage=name, handler=stage.handler))

    return build


if __name__ == "__main__":
    main(sys.argv[1:], builders={name: _built(name) for name in BUILDERS})
