"""Waiting for something to become true, within a limit."""

import asyncio
import time
from collections.abc import Callable


async def until(condition: Callable[[], bool], limit_s: float = 20.0, every_s: float = 0.0) -> None:
    """Return when the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"not true within {limit_s} s"
        await asyncio.sleep(every_s)
