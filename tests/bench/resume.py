"""Answer streams that are cut at random places, and read on at another gateway: `python -m tests.bench.resume`.

A gateway runs beside the stack. Streams begin there, and go on at either gateway whenever they are cut; then the one
beside is killed for good amid its streams. The text that each reader has is compared with the stored answer.
"""

import argparse
import asyncio
import random
import signal
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from headrace.answers import ENDS
from headrace.client import AnswerEvent, AsyncClient, joined
from headrace.local.table import Options, Row
from tests.e2e.api import Api
from tests.faults.cutting import Cutting
from tests.slow_model import slow, writing
from tests.stack import Beside, Stack, running

TEXT: Final = "The sluice gate of the north dam opens at a water level of 4.2 metres, and a lever moves it."
QUESTION: Final = "At which water level does the sluice gate of the north dam open?"
FIRST_MARK: Final = 9_000
GATEWAY: Final = Row(name="gateway-beside", arguments=("-m", "gateway"), port_variable="HEADRACE_GATEWAY_PORT")
AT_ONCE: Final = 25
EVENTS: Final = 36
"""About how many events a stream of the slow model has."""


async def cut(urls: Sequence[str], n: int, seed: int) -> Counter[str]:
    """Ask until n streams, begun at the first gateway, were cut; what goes on after a cut may be cut again."""
    turns = asyncio.Semaphore(AT_ONCE)
    counts: Counter[str] = Counter()

    async def one(number: int) -> None:
        cutting = Cutting(rng=random.Random(f"{seed}/{number}"), share=1, most_events=EVENTS)
        async with turns, AsyncClient(urls=urls, api_key="acme-key", transport=cutting) as client:
            events: list[AnswerEvent] = []
            while not cutting.cuts:
                events = [event async for event in client.query_stream(QUESTION)]
            counts.update(await _judged(client, events))
        counts["cuts"] += len(cutting.cuts)

    await asyncio.gather(*(one(number) for number in range(n)))
    return counts


async def outliving(beside: Beside, survivor: str, n: int, end: signal.Signals = signal.SIGKILL) -> Counter[str]:
    """Ask n questions of a gateway, and send it a signal that ends it for good when each has told some tokens.

    The questions are marked: a model that takes more time for those writes all of them still when the signal comes.
    """
    telling = [asyncio.Event() for _ in range(n)]
    counts: Counter[str] = Counter()

    async def one(number: int, tells: asyncio.Event) -> None:
        events = []
        async with AsyncClient(urls=[beside.url, survivor], api_key="acme-key") as client:
            try:
                async for event in client.query_stream(f"{QUESTION} ask{FIRST_MARK + number}x"):
                    events.append(event)
                    if sum(each.event == "token" for each in events) == 3:
                        tells.set()
            finally:
                tells.set()  # one that ends before, as by its deadline, is judged, and holds up nobody
            counts.update(await _judged(client, events))

    async def stop() -> None:
        await asyncio.gather(*(tells.wait() for tells in telling))
        beside.process.send_signal(end)

    await asyncio.gather(stop(), *(one(number, tells) for number, tells in enumerate(telling)))
    return counts


async def _judged(client: AsyncClient, events: Sequence[AnswerEvent]) -> Counter[str]:
    """Compare what a reader has with what is stored."""
    names, query = [event.event for event in events], events[0].data["id"]
    stored = await client.question(query)
    answer = str(stored["answer"])
    return Counter(
        {
            "streams": 1,
            "resets": names.count("reset"),
            "one end": [name for name in names if name in ENDS] == ["done"] and names[-1] == "done",
            "text as stored, to the byte": joined(events).encode() == answer.encode(),
            "one answer, the stored one": [event.data["answer"] for event in events if event.event == "answer"]
            == [answer],
            f"ended by {names[-1]}": 1,
        }
    )


def fill(stack: Stack) -> None:
    """Put the document that the questions are about, and wait until it is found."""
    acme = Api.connect(stack.url, "acme-key")
    acme.put({"id": "gates.md", "text": TEXT})
    acme.find("sluice gate", "gates.md")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="headrace-resume-"))
    with writing(slow()) as model, running(folder, Options(env=model.env)) as stack:
        fill(stack)
        with stack.beside(GATEWAY, model.env) as beside:
            cuts = asyncio.run(cut([beside.url, stack.url], arguments.streams, arguments.seed))
            print(f"cut:      {dict(cuts)}")
            print(f"outlived: {dict(asyncio.run(outliving(beside, stack.url, AT_ONCE)))}")


if __name__ == "__main__":
    main()
