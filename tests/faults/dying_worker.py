"""A worker that dies between storing how a question ended and saying so: for each question that holds the word `die`.

`python -m tests.faults.dying_worker --stages retrieve,generate`
"""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

from schemas.events import EvidenceRetrieved, Reply
from streams.__main__ import main
from streams.runtime.record import Claim, Flush, Handler, Inbound, Outbound
from streams.runtime.stage import Stage
from streams.wiring import BUILDERS, Parts

WORD: Final = "die"
EXIT_DEAD: Final = 137
"""As after SIGKILL."""


@dataclass(frozen=True, kw_only=True)
class Dying:
    """A handler that ends the process in place of publishing the end of a question."""

    handler: Handler[Any]

    async def __call__(self, record: Inbound[EvidenceRetrieved]) -> AsyncIterator[Outbound | Flush | Claim]:
        """Do what the handler does, until it would say how the question ended."""
        doomed = record.event is not None and WORD in record.event.text.lower().split()
        outputs = self.handler(record)
        async with aclosing(outputs):  # type: ignore[type-var]
            async for output in outputs:
                if doomed and _is_end(output):
                    os._exit(EXIT_DEAD)
                yield output


def _is_end(output: Outbound | Flush | Claim) -> bool:
    """Whether it follows upon the compare-and-set that ends the question."""
    event = output.event if isinstance(output, Outbound) else None
    return isinstance(event, Reply) and event.type in ("answer", "cancelled")


def generate(parts: Parts) -> Stage:
    """Write answers, and die of some."""
    stage = BUILDERS["generate"](parts)
    return replace(stage, handler=Dying(handler=stage.handler))


if __name__ == "__main__":
    main(sys.argv[1:], builders={**BUILDERS, "generate": generate})
