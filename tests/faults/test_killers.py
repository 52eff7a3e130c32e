"""Records that kill every worker that handles them, amid many that do not: each is given up at its third death."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from confluent_kafka import Consumer, Message, TopicPartition

from headrace.client import Client
from headrace.local.table import Options
from schemas.dead_letters import PREFIX
from schemas.topics import DEAD_LETTERS
from tests.e2e.api import Api
from tests.faults.killing_worker import VARIABLE
from tests.faults.poison import records
from tests.faults.run import one_worker_per_lane, two_of_each
from tests.slow_model import slow, writing
from tests.stack import Stack, running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(420)]

N_NEIGHBOURS = 48
RECOVERED_S = 120.0
"""Three deaths, each of which the group takes 10 s to notice, and starts, with room for a busy machine."""
REASON = "kills_worker"
MODULE = "tests.faults.killing_worker"


def options(build: Any, deaths: Path) -> Options:
    """Questions may take longer than three deaths do."""
    env = {VARIABLE: str(deaths), "HEADRACE_QUERY_TIMEOUT_MS": str(int(1000 * RECOVERED_S))}
    whole: Options = build(MODULE)
    return msgspec.structs.replace(whole, env={**whole.env, **env})


@dataclass(kw_only=True)
class Killers:
    """A stack with such workers, and what is sent to it."""

    stack: Stack
    deaths: Path

    def killed(self) -> "Counter[str]":
        """Deaths by stage."""
        return Counter(self.deaths.read_text().split()) if self.deaths.exists() else Counter()

    def documents(self, name: str, killers: Sequence[str]) -> None:
        """Submit neighbours, the killers amid them, and see that all neighbours arrive and no killer does."""
        api = Api.connect(self.stack.url, "acme-key")
        half = N_NEIGHBOURS // 2
        before = self.killed()
        began = time.monotonic()
        receipts = api.ingest(*(neighbour(name, n) for n in range(half)))
        deadly = api.ingest(*({"id": f"{name}/{text}", "text": f"This one {text}."} for text in killers))
        receipts += api.ingest(*(neighbour(name, n) for n in range(half, N_NEIGHBOURS)))

        arrived = api.settle(*receipts, seconds=RECOVERED_S)
        arrived_s = time.monotonic() - began
        given_up = api.settle(*deadly, seconds=RECOVERED_S)
        print(f"{name}: neighbours {arrived_s:.1f} s, killers {time.monotonic() - began:.1f} s after submission")

        assert {document["status"] for document in arrived} == {"indexed"}
        assert [document["status"] for document in given_up] == ["failed"] * len(killers)
        assert {document["failure"]["reason"] for document in given_up} == {REASON}
        stages = [text.split("-")[1] for text in killers]
        died = self.killed() - before
        assert [died[stage] for stage in stages] == [3] * len(killers)
        for stage, document in zip(stages, given_up, strict=True):
            self.check_letters(stage, f"acme/{document['id']}".encode())

    def question(self, text: str) -> None:
        """Ask amid others; they are answered, and the killer ends with the reason."""
        stage, before, began = text.split("-")[1], self.killed(), time.monotonic()
        with ThreadPoolExecutor() as threads:
            others = [threads.submit(ask, self.stack, f"What says neighbour {n}?") for n in range(4)]
            deadly = threads.submit(ask, self.stack, f"What {text} ?")
            ends = [other.result() for other in others]
            took_s = time.monotonic() - began
            end, problem = deadly.result()
        print(f"{text}: others {took_s:.1f} s, killer {time.monotonic() - began:.1f} s")

        assert [name for name, _ in ends] == ["done"] * 4
        assert end == "error"
        assert problem["type"].endswith(REASON), problem
        assert (self.killed() - before)[stage] == 3
        (row,) = self.stack.sql("SELECT id FROM queries WHERE question ->> 'text' LIKE '%' || $1 || '%'", text)
        self.check_letters(stage, str(row["id"]).encode())

    def check_letters(self, stage: str, key: bytes) -> None:
        """See that each dead letter under a key is the record as it stands in its topic."""
        letters = records(self.stack, DEAD_LETTERS.named(stage).name)
        found = [letter for letter in letters if cast(Any, letter.key()) == key]
        assert found
        for letter in found:
            self.check_letter(letter)

    def check_letter(self, letter: Message) -> None:
        """See that a dead letter is the record as it stands in its topic."""
        headers = cast("list[tuple[str, bytes]]", letter.headers())
        why = {name.removeprefix(PREFIX): value.decode() for name, value in headers if name.startswith(PREFIX)}
        assert why["reason"] == REASON
        record = self.record(why["topic"], int(why["partition"]), int(why["offset"]))
        assert (letter.key(), letter.value()) == (record.key(), record.value())
        assert [pair for pair in headers if not pair[0].startswith(PREFIX)] == (record.headers() or [])

    def record(self, topic: str, partition: int, offset: int) -> Any:
        """Read one record."""
        consumer = Consumer({"bootstrap.servers": self.stack.kafka, "group.id": "killers", "log_level": 0})
        try:
            consumer.assign([TopicPartition(topic, partition, offset)])
            return consumer.poll(10)
        finally:
            consumer.close()


def neighbour(name: str, n: int) -> dict[str, Any]:
    return {"id": f"{name}/{n}", "text": f"Neighbour {n} of {name} harms nobody."}


def ask(stack: Stack, question: str) -> tuple[str, Mapping[str, Any]]:
    """Return name and data of the last event."""
    with Client(urls=stack.urls, api_key="acme-key") as client:
        *_, last = client.query_stream(question)
    return last.event, last.data


def test_a_document_and_a_question_that_kill_are_given_up_at_the_third_death(tmp_path: Path) -> None:
    deaths = tmp_path / "deaths"
    whole = options(one_worker_per_lane, deaths)
    with (
        writing(slow(between_s=0.1)) as model,
        running(tmp_path / "home", msgspec.structs.replace(whole, env={**whole.env, **model.env})) as stack,
        ThreadPoolExecutor() as threads,
    ):
        killers = Killers(stack=stack, deaths=deaths)
        Api.connect(stack.url, "acme-key").put(*(neighbour("first", n) for n in range(4)))
        asking = threads.submit(Killers(stack=stack, deaths=deaths).question, "kills-generate-by-crash")
        killers.documents("embed", ["kills-embed-by-exit"])
        asking.result()


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("build", [one_worker_per_lane, two_of_each])
def test_each_stage_gives_up_what_kills_it(tmp_path: Path, build: Any) -> None:
    deaths = tmp_path / "deaths"
    with running(tmp_path / "home", options(build, deaths)) as stack:
        killers = Killers(stack=stack, deaths=deaths)
        Api.connect(stack.url, "acme-key").put(*(neighbour("first", n) for n in range(4)))
        for stage, way in (("intake", "kill"), ("chunk", "crash"), ("embed", "kill"), ("index", "exit")):
            killers.documents(stage, [f"kills-{stage}-by-{way}"])
        for stage, way in (("retrieve", "kill"), ("generate", "exit")):
            killers.question(f"kills-{stage}-by-{way}")
        killers.documents("several", ["kills-chunk-by-exit", "kills-index-by-crash"])
