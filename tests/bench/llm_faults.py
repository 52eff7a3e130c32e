"""What a reader sees when the language model fails: `python -m tests.bench.llm_faults`.

A whole stack, one gateway, with two endpoints that fail as they are told. Each fault strikes the first endpoint alone,
and then both; between faults some questions are answered well, so that the breakers stay closed. At the end both are
away for a while: what each question costs while the breakers are open, and when they are back.
"""

import asyncio
import itertools
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
from httpx_sse import aconnect_sse

from headrace.local.table import Options
from tests.doubles.llm_server import FAULTS, ODDITIES, WELL, Behaviour, LlmServer, serving
from tests.e2e.api import Api
from tests.stack import running

QUESTION = "How is the gate opened?"
DOCUMENT = {
    "id": "bench/gate",
    "text": "Then the gate is opened by a lever. It was built in 1936.",
    "collection": "bench",
}
FIRST_TOKEN_MS = 2_000
TOKEN_MS = 500
N_WELL = 3
GONE = FAULTS["500"]
AWAY_S = 8.0


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One question as its reader saw it.

    Attributes:
        events: kinds of events in order.
        link: what wrote the answer.
        first_s: until the first text, `end_s` until the last event.
        broken: what the reader must never see; empty where all is well.
    """

    events: Sequence[str]
    link: str
    first_s: float
    end_s: float
    broken: str

    def __str__(self) -> str:
        """Say it in a line."""
        runs = [(name, len(list(run))) for name, run in itertools.groupby(self.events)]
        told = " ".join(name if n == 1 else f"{name}*{n}" for name, n in runs)
        return f"{self.link:13} first text {self.first_s:5.2f} s, end {self.end_s:5.2f} s  {told}  {self.broken}"


async def ask(client: httpx.AsyncClient) -> Seen:
    """Ask, and check what must always hold."""
    events, told, answer, link = [], "", "", "none"
    first_s, begun = 0.0, time.perf_counter()
    body = {"query": QUESTION, "collection": "bench"}
    headers = {"Accept": "text/event-stream"}
    async with aconnect_sse(client, "POST", "/v1/query", json=body, headers=headers) as source:
        async for event in source.aiter_sse():
            if not event.data:
                continue
            data = json.loads(event.data)
            events.append(event.event)
            if event.event == "reset":
                told = ""
            elif event.event == "token":
                first_s = first_s or time.perf_counter() - begun
                told += data["text"]
            elif event.event == "answer":
                answer, link = data["answer"], data["provider"]
    n_ends = sum(name in ("done", "error", "cancelled") for name in events)
    broken = "" if n_ends == 1 else f"ENDS: {n_ends}"
    if told != answer:
        broken += f" TOLD {told!r} BUT ANSWERED {answer!r}"
    return Seen(events=events, link=link, first_s=first_s, end_s=time.perf_counter() - begun, broken=broken)


def behave(servers: Sequence[LlmServer], behaviour: Behaviour) -> None:
    """Let servers answer so from now on."""
    for server in servers:
        server.behave = lambda _: behaviour


async def measure(client: httpx.AsyncClient, first: LlmServer, backup: LlmServer) -> bool:
    """Run all faults; say whether every reader saw what must hold."""
    well = True
    print(f"{'warm':40}{await ask(client)}")
    for name, behaviour in (ODDITIES | FAULTS).items():
        struck = [[first]] if name in ODDITIES else [[first], [first, backup]]
        for servers in struck:
            behave(servers, behaviour)
            seen = await ask(client)
            behave(servers, WELL)
            print(f"{name + (', both' if len(servers) > 1 else ''):40}{seen}", flush=True)
            well = well and not seen.broken
            for _ in range(N_WELL):
                await ask(client)
                # refusing a prompt is nothing that opens a breaker, and the backup has a good answer to its name
                behave([first], FAULTS["400"])
                await ask(client)
                behave([first], WELL)
    print(f"\nBoth endpoints answer 500 for {AWAY_S:.0f} s; a question every half second:")
    behave([first, backup], GONE)
    begun = time.perf_counter()
    while (age := time.perf_counter() - begun) < AWAY_S + 20:
        if age > AWAY_S:
            behave([first, backup], WELL)
        asked = len(first.requests) + len(backup.requests)
        seen = await ask(client)
        well = well and not seen.broken
        print(f"{age:5.1f} s, endpoints asked {len(first.requests) + len(backup.requests) - asked}: {seen}", flush=True)
        if age > AWAY_S and seen.link == "openai":
            break
        await asyncio.sleep(0.5)
    return well


async def run() -> bool:
    """Start everything, and measure."""
    async with serving() as first, serving() as backup:
        settings = {
            "HEADRACE_LLM_BASE_URL": first.url,
            "HEADRACE_LLM_MODEL": "first",
            "HEADRACE_LLM_BACKUP_BASE_URL": backup.url,
            "HEADRACE_LLM_BACKUP_MODEL": "backup",
            "HEADRACE_LLM_FIRST_TOKEN_TIMEOUT_MS": str(FIRST_TOKEN_MS),
            "HEADRACE_LLM_TOKEN_TIMEOUT_MS": str(TOKEN_MS),
        }
        with (
            tempfile.TemporaryDirectory(prefix="headrace-") as folder,
            running(Path(folder), Options(env=settings)) as stack,
        ):
            Api.connect(stack.url, "acme-key").put(DOCUMENT)
            headers = {"Authorization": "Bearer acme-key"}
            async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=120) as client:
                return await measure(client, first, backup)


if __name__ == "__main__":
    raise SystemExit(not asyncio.run(run()))
