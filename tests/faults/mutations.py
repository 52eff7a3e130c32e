"""Puts worse parts into a stack, one at a time, and shows which invariant the checker finds broken.

`python -m tests.faults.mutations` runs them all three times and prints a table; 1 when one was not noticed.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec
from confluent_kafka import Producer

from headrace.client import AsyncClient, Client
from headrace.local.table import Options
from headrace.operations import Operations
from schemas.codec import headers_of, version_of
from schemas.topics import EMBEDDINGS, Topic
from tests.faults.checker import Verdict, check
from tests.faults.disturbing import kill
from tests.faults.gauges import await_no_lag
from tests.faults.history import read
from tests.faults.load import Load
from tests.faults.poison import records
from tests.faults.run import HISTORY, behind_a_large_document, every_stage, worker, writing_history
from tests.faults.worse_worker import REFUSED, VARIABLE
from tests.slow_model import slow, writing
from tests.stack import Stack, running

MODULE = "tests.faults.worse_worker"
WITHIN_S = 60.0
N_QUESTIONS = 6
EVENTS_AMID = 4 * N_QUESTIONS
"""Each question is accepted, has its sources, and the first of its thirty tokens."""
OPERATOR_KEY = "operator-key"

Scenario = Callable[[Stack, Load], Awaitable[None]]


async def repeated_records(stack: Stack, load: Load) -> None:
    """Every first version comes to the index stage again, after the second one or a delete is live."""
    rng = random.Random(load.seed)
    names = [f"d{n}" for n in range(6)]
    async with load.client() as client:
        for _ in range(2):
            for name in names:
                await load.submit(client, name, rng, n_new=3)
            await asyncio.gather(*(load.await_visible(client, name) for name in names))
        await load.delete(client, names[0])
        await load.await_visible(client, names[0])
    await asyncio.to_thread(repeat_first_versions, stack, EMBEDDINGS.named("g1"))
    await await_no_lag(stack, load.history, WITHIN_S)


def repeat_first_versions(stack: Stack, topic: Topic) -> None:
    """Produce the records of first versions again, as they are."""
    producer = Producer({"bootstrap.servers": stack.kafka})
    for message in records(stack, topic.name):
        headers = cast(Sequence[tuple[str, bytes | None]], message.headers() or [])
        partition = message.partition()
        if version_of(headers_of(headers)) == 1 and partition is not None:
            same: list[tuple[str, str | bytes | None]] = list(headers)
            producer.produce(topic.name, key=message.key(), value=message.value(), headers=same, partition=partition)
    assert producer.flush(WITHIN_S) == 0


async def cancelled_at_the_end(stack: Stack, load: Load) -> None:
    """Questions are cancelled when their reader has heard the end."""
    async with load.client() as client:
        await _something_to_find(client, load)

        async def ask(n: int) -> None:
            reader = f"late/{n}"
            await load.follow(reader, client.query_stream("How fast does the pump turn?"))
            await load.cancel(client, reader)

        await asyncio.gather(*(ask(n) for n in range(N_QUESTIONS)))
        await asyncio.sleep(1)


async def asked_before_and_after(stack: Stack, load: Load) -> None:
    """The same question is asked before and after all paragraphs of a document were replaced."""
    async with load.client() as client:
        for n in range(3):
            await load.replace(client, "d", random.Random(f"{load.seed}/{n}"), n_new=3)
            await load.await_visible(client, "d")
            await load.follow(f"again/{n}", client.query_stream("How fast does the pump turn?"))


async def killed_while_answering(stack: Stack, load: Load) -> None:
    """One of two workers is killed while it writes answers, and the other one has to write them."""
    load.history.add("promised")
    async with load.client() as client:
        await _something_to_find(client, load)
        for part in ("worker-query-1", "worker-query-2"):
            questions = [
                asyncio.create_task(load.follow(f"{part}/{n}", client.query_stream(f"How fast does pump {n} turn?")))
                for n in range(N_QUESTIONS)
            ]
            await load.history.reached("event", load.history.counts["event"] + EVENTS_AMID, WITHIN_S)
            kill(stack, part, load.history)
            await asyncio.gather(*questions)
            await asyncio.sleep(5)


async def redriven_too_late(stack: Stack, load: Load) -> None:
    """A document that was refused is redriven when a newer version of it is searchable."""
    async with load.client() as client:
        await load.submit(client, "d", random.Random(1), n_new=2, more=REFUSED.decode())
        assert await load.await_status(client, "d", "failed") == "failed"
        await load.replace(client, "d", random.Random(2), n_new=2)
        await load.await_visible(client, "d")
    await asyncio.to_thread(redrive_all, stack)
    await asyncio.sleep(2)
    await await_no_lag(stack, load.history, WITHIN_S)


def redrive_all(stack: Stack) -> None:
    """Redrive every dead letter, and wait until that is done."""
    end = time.monotonic() + WITHIN_S
    with Client(stack.url, OPERATOR_KEY) as client:
        operator = Operations(client=client)
        while not (letters := list(operator.dead_letters(state="open"))):
            assert time.monotonic() < end, "the dead letter was not registered"
            time.sleep(0.2)
        for letter in letters:
            operator.redrive(letter["id"])
        while list(operator.dead_letters(state="redrive")):
            assert time.monotonic() < end, "the dead letter was not redriven"
            time.sleep(0.2)


async def _something_to_find(client: AsyncClient, load: Load) -> None:
    await load.submit(client, "d", random.Random(load.seed), n_new=3)
    await load.await_visible(client, "d")


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """A worse part, what is done to a stack that has it, and the invariants that this breaks."""

    what: str
    scenario: Scenario | None
    breaks: tuple[str, ...]


MUTATIONS = {
    "commit": Mutation(what="commit over a hole", scenario=None, breaks=("I1 lost",)),
    "fence": Mutation(what="skip the fence", scenario=repeated_records, breaks=("I3 resurrected",)),
    "end": Mutation(
        what="publish before the compare-and-set", scenario=cancelled_at_the_end, breaks=("I4 end differs",)
    ),
    "origin": Mutation(what="mint a version on redrive", scenario=redriven_too_late, breaks=("I3 resurrected",)),
    "serving": Mutation(
        what="serve a superseded chunk", scenario=asked_before_and_after, breaks=("I3 old version served",)
    ),
    "lease": Mutation(what="forget a lease", scenario=killed_while_answering, breaks=("I4 not answered",)),
}


def run(folder: Path, part: str, seed: int, *, sound: bool = False) -> Verdict:
    """Do what breaks a stack with this worse part; `sound`: to a stack without it, which must not break."""
    mutation, worse = MUTATIONS[part], "none" if sound else part
    with writing(slow()) as model, running(folder / "home", _options({**model.env, VARIABLE: worse})) as stack:
        if mutation.scenario is None:
            return behind_a_large_document(folder, stack, "acme", seed)
        with writing_history(folder, stack, "acme", seed) as load:
            asyncio.run(_play(mutation.scenario, stack, load))
    return check(read(folder / HISTORY))


async def _play(scenario: Scenario, stack: Stack, load: Load) -> None:
    await scenario(stack, load)
    await load.observe()


def _options(env: dict[str, str]) -> Options:
    """One gateway and one ingest worker, two query workers, and the operator stage."""
    whole = every_stage(MODULE, env)
    spared = ("gateway-2", "worker-ingest-2", "worker-score")
    rows = [row for row in whole.processes if row.name not in spared]
    return msgspec.structs.replace(whole, processes=(*rows, worker("worker-operator", ("operator",), MODULE)))


def main() -> int:
    """Run by hand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("parts", nargs="*", default=[], help=f"of {', '.join(MUTATIONS)}; none: all of them")
    arguments = parser.parse_args()
    missed = 0
    print(f"{'worse part':<38}{'noticed':>9}{'seconds':>9}  by", flush=True)
    for part in arguments.parts or MUTATIONS:
        mutation = MUTATIONS[part]
        noticed, caught, took_s = 0, set[str](), 0.0
        for seed in range(1, arguments.times + 1):
            began = time.monotonic()
            with tempfile.TemporaryDirectory(prefix="headrace-mutation-") as folder:
                verdict = run(Path(folder), part, seed)
            took_s = max(took_s, time.monotonic() - began)
            noticed += all(verdict.counts[name] for name in mutation.breaks)
            caught |= {violation.split(":")[0] for violation in verdict.violations}
        missed += arguments.times - noticed
        times = f"{noticed} of {arguments.times}"
        print(f"{mutation.what:<38}{times:>9}{took_s:>9.0f}  {', '.join(sorted(caught))}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
