"""What Headrace adds to a language model's own time: `python -m tests.bench.llm`.

A stack with the local model answers questions about this project's documents. Each question is put to Headrace, and its
very prompt to the model's server; which goes first changes from question to question, and before each of the two the
server is made to forget the prompt. Both figures count from the request to the first text that its reader gets.

The model takes the cores that Headrace needs, and on a busy machine its time varies by seconds. With `--fixed` a server
stands in for it that takes the same time for each answer and no core, so that what is left is what Headrace adds.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from httpx_sse import connect_sse

from headrace.local import stack as local
from headrace.local.artefacts import read_lock
from headrace.local.language_model import CONTEXT_TOKENS, PART, language_model_settings
from headrace.local.table import Options
from schemas.events import Evidence, Usage
from streams.adapters.openai_chain import PROMPT
from streams.adapters.openai_model import OpenaiModel, client
from streams.generate.model import Message
from streams.generate.prompt import Prompt, pack
from tests.doubles.llm_server import Behaviour, serving
from tests.e2e.api import Api
from tests.stack import Stack, running

DOCS = Path(__file__).parent.parent.parent / "docs"
QUESTIONS = (
    "What is the fence?",
    "What does the ledger hold?",
    "What is a lane?",
    "What is a dead letter?",
    "What is an index generation?",
    "What is the alias?",
    "What does the lexical view hold?",
    "What is an abstention?",
    "What is a tombstone?",
    "Which version of a document is live?",
    "How long is a transient failure retried?",
    "What is the parsed text?",
    "What is the reply partition?",
    "What is the serving fence?",
)
FORGET = ("Count the birds on the wire.", "Name a colour that nobody likes.")
MAX_TOKENS = 48
FIXED = Behaviour(pieces=[f"word{n} " for n in range(40)], first_s=0.2, between_s=0.02, usage=(400, 40))
SETTINGS = {
    # on a busy machine, too, each question shall be answered by the model
    "HEADRACE_LLM_FIRST_TOKEN_TIMEOUT_MS": "120000",
    "HEADRACE_QUERY_TIMEOUT_MS": "120000",
    "HEADRACE_LLM_MAX_TOKENS": str(MAX_TOKENS),
}


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One answer: seconds to its first text and to its end, and what it cost."""

    first_s: float
    end_s: float
    usage: Usage

    @property
    def tokens_per_s(self) -> float:
        """Tokens after the first, by the time from the first text to the end."""
        return (self.usage.completion_tokens - 1) / (self.end_s - self.first_s)


def through_headrace(api: Api, question: str) -> tuple[Timed, str]:
    """Ask as a reader of the stream does; returns the provider as well."""
    first_s = end_s = 0.0
    answer: dict[str, Any] = {}
    headers = {"Accept": "text/event-stream"}
    begun = time.perf_counter()
    body = {"query": question, "collection": "bench"}
    with connect_sse(api.client, "POST", "/v1/query", json=body, headers=headers) as source:
        for event in source.iter_sse():
            if event.event == "token" and not first_s:
                first_s = time.perf_counter() - begun
            elif event.event == "answer":
                end_s, answer = time.perf_counter() - begun, json.loads(event.data)
    usage = Usage(**answer["usage"])
    return Timed(first_s=first_s or end_s, end_s=end_s, usage=usage), answer["provider"]


async def direct(model: OpenaiModel, messages: Sequence[Message]) -> Timed:
    """Ask the model's server itself."""
    first_s, usage = 0.0, Usage()
    begun = time.perf_counter()
    async with aclosing(model(messages, first_token_s=60)) as outs:
        async for out in outs:
            if isinstance(out, Usage):
                usage = out
            elif not first_s:
                first_s = time.perf_counter() - begun
    return Timed(first_s=first_s, end_s=time.perf_counter() - begun, usage=usage)


def prompt_of(api: Api, question: str) -> list[Message]:
    """Make the prompt that the question's answerer makes of the same passages."""
    evidence = [
        Evidence(
            document=hit["document_id"],
            version=1,
            chunk=hit["chunk_id"],
            text=hit["text"],
            start=hit["start"],
            end=hit["end"],
            score=hit["score"],
            title=hit["title"],
            headings=hit["headings"],
        )
        for hit in api.search(question, collection="bench", top_k=8)
    ]
    return Prompt.load(PROMPT).messages(question, pack(evidence, CONTEXT_TOKENS))


def ingest(api: Api) -> None:
    """Put this project's documents in."""
    documents = [
        {"id": f"bench/{file.name}", "text": file.read_text(), "content_type": "text/markdown", "collection": "bench"}
        for file in sorted(DOCS.glob("*.md"))
    ]
    assert all(found["status"] == "indexed" for found in api.put(*documents))


async def measure(stack: Stack, n: int, settings: Mapping[str, str]) -> None:
    """Ask, and print."""
    api = Api.connect(stack.url, "acme-key")
    await asyncio.to_thread(ingest, api)
    ours, theirs = [], []
    async with client(settings["HEADRACE_LLM_BASE_URL"], settings["HEADRACE_LLM_API_KEY"]) as opened:
        model = OpenaiModel(client=opened, name=settings["HEADRACE_LLM_MODEL"], max_tokens=MAX_TOKENS, token_s=60)

        async def forget() -> None:
            # both at once and long enough to overlap, so that each takes one of the server's two slots
            short = OpenaiModel(client=opened, name=model.name, max_tokens=24, token_s=60)
            await asyncio.gather(*(direct(short, [Message("user", text)]) for text in FORGET))

        for number in range(-1, n):  # the first one warms both up
            question = QUESTIONS[number % len(QUESTIONS)]
            messages = await asyncio.to_thread(prompt_of, api, question)
            pair: dict[str, Timed] = {}
            for turn in ("headrace", "direct") if number % 2 else ("direct", "headrace"):
                await forget()
                if turn == "direct":
                    pair[turn] = await direct(model, messages)
                else:
                    pair[turn], provider = await asyncio.to_thread(through_headrace, api, question)
            if number < 0:
                continue
            if provider != "openai" or pair["headrace"].usage.prompt_tokens != pair["direct"].usage.prompt_tokens:
                print(f"left out, answered by {provider}, not from the same prompt: {question}")
                continue
            ours.append(pair["headrace"])
            theirs.append(pair["direct"])
    print(f"questions measured: {len(ours)}; prompts of {spread([each.usage.prompt_tokens for each in ours])} tokens")
    for name, timed in (("through Headrace", ours), ("the server itself", theirs)):
        print(f"{name}: first text after {spread([each.first_s * 1000 for each in timed])} ms,", end=" ")
        long = [each.tokens_per_s for each in timed if each.usage.completion_tokens > 10]
        print(f"{spread(long)} tokens/s, whole answer after {spread([each.end_s * 1000 for each in timed])} ms")
    added = [(a.first_s - b.first_s) * 1000 for a, b in zip(ours, theirs, strict=True)]
    print(f"added to the first text, pair by pair: {spread(added)} ms")
    for part in local.status(stack.home).parts:
        if part.name in (PART, "worker-query"):
            print(f"resident memory of {part.name}: {part.rss_bytes / 1e6:.0f} MB")


def spread(values: Sequence[float]) -> str:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.1f} (quartiles {low:.1f} to {high:.1f})"


async def run(n: int, *, fixed: bool) -> None:
    """Start a stack, and measure."""
    async with serving(FIXED) as double:
        found = {"HEADRACE_LLM_BASE_URL": double.url, "HEADRACE_LLM_MODEL": "fixed", "HEADRACE_LLM_API_KEY": ""}
        options = Options(llm=not fixed, env=SETTINGS | found if fixed else SETTINGS)
        with tempfile.TemporaryDirectory(prefix="headrace-") as folder, running(Path(folder), options) as stack:
            if not fixed:
                port = local.port_of(stack.home, PART)
                found = language_model_settings(stack.home, read_lock().language_model, port)
            await measure(stack, n, found)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=14, help="pairs measured")
    parser.add_argument("--fixed", action="store_true", help="a server of fixed times instead of the model")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.n, fixed=arguments.fixed))


if __name__ == "__main__":
    main()
