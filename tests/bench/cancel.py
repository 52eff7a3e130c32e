"""Questions that are cancelled while others are answered: `python -m tests.bench.cancel`.

Measures the time from sending the cancel until the model's connection is closed, and until the reader hears the end;
and compares the text that is kept with the tokens that were read.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headrace.client import AsyncClient, Heard
from headrace.local.table import Options
from tests.bench.resume import QUESTION, fill
from tests.slow_model import SlowModel, slow, writing
from tests.stack import running

AT_ONCE: Final = 8
MODEL: Final = slow(n_pieces=120, between_s=0.05)
"""Six seconds of writing: longer than any question waits for its cancel."""


@dataclass(frozen=True, kw_only=True)
class Cancelled:
    """What came of one cancel; times from sending it, seconds."""

    outcome: str
    stored: str
    heard: str
    told: str
    model_s: float
    end_s: float


async def cancelled(url: str, model: SlowModel, number: int, after_s: float) -> Cancelled:
    """Ask, read for a while from the first token on, cancel, and read to the end."""
    mark, heard = f"ask{number}x", Heard()
    sent_s, told = 0.0, ""
    async with AsyncClient(url, "acme-key") as client, asyncio.TaskGroup() as tasks:

        async def cancel() -> dict[str, str]:
            nonlocal sent_s
            await asyncio.sleep(after_s)
            sent_s = time.monotonic()
            return await client.cancel(str(heard.query))

        cancelling: asyncio.Task[dict[str, str]] | None = None
        async for event in client.query_stream(f"{QUESTION} {mark}"):
            heard.hear(event)
            if event.event == "token" and cancelling is None:
                cancelling = tasks.create_task(cancel())
            if event.event == "cancelled":
                told = event.data["text"]
        end_s = time.monotonic()
        assert cancelling is not None, f"ended with {heard.end} before the first token"
        stored = await cancelling
    async with asyncio.timeout(10):
        stopped_s = await asyncio.wrap_future(model.stopped(mark))
    return Cancelled(
        outcome=stored["outcome"],
        stored=stored["answer"] or "",
        heard=heard.text,
        told=told,
        model_s=stopped_s - sent_s,
        end_s=end_s - sent_s,
    )


async def under_load(url: str, model: SlowModel, n: int, n_others: int, seed: int) -> list[Cancelled]:
    """Cancel n questions while others are asked one after the other."""
    rng, turns = random.Random(seed), asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> Cancelled:
        async with turns:
            return await cancelled(url, model, number, rng.uniform(0.1, 1.0))

    async def ask() -> None:
        async with AsyncClient(url, "acme-key") as client:
            while True:
                async for _ in client.query_stream(QUESTION):
                    pass

    others = [asyncio.create_task(ask()) for _ in range(n_others)]
    try:
        return list(await asyncio.gather(*(one(number) for number in range(n))))
    finally:
        for other in others:
            other.cancel()
            with suppress(asyncio.CancelledError):
                await other


def spread(seconds: Sequence[float]) -> str:
    """Median, 99th percentile and longest, milliseconds."""
    ordered = sorted(seconds)
    p50, p99 = (ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.99))
    return f"p50 {p50 * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, longest {ordered[-1] * 1000:.0f} ms"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cancels", type=int, default=100)
    parser.add_argument("--others", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="headrace-cancel-"))
    with writing(slow(), marked=MODEL) as model, running(folder, Options(env=model.env)) as stack:
        fill(stack)
        found = asyncio.run(under_load(stack.url, model, arguments.cancels, arguments.others, arguments.seed))
    print(f"cancels:                        {len(found)}, {dict(Counter(each.outcome for each in found))}")
    print(f"kept text is what was read:     {sum(each.stored == each.heard == each.told for each in found)}")
    print(f"until the model is left alone:  {spread([each.model_s for each in found])}")
    print(f"until the reader hears the end: {spread([each.end_s for each in found])}")


if __name__ == "__main__":
    main()
