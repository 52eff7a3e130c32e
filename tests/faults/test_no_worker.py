"""Questions that are accepted while no worker lives, and one whose only worker dies before it says how it ended."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec
import pytest

from headrace.client import AnswerEvent, Client, joined
from headrace.local.table import Options, Row
from tests.faults.dying_worker import EXIT_DEAD
from tests.faults.run import QUERY, ROOT, gateway, results
from tests.stack import Stack, running

pytestmark = [pytest.mark.faults, pytest.mark.timeout(360)]

IMPATIENT_S = 2.0
GRACE_S = 3.0
"""For the sweeper of either gateway to come round, and for Kafka."""
GATEWAYS = (
    msgspec.structs.replace(gateway("gateway"), env={"HEADRACE_QUERY_TIMEOUT_MS": str(int(IMPATIENT_S * 1000))}),
    msgspec.structs.replace(gateway("gateway-2"), env={"HEADRACE_QUERY_TIMEOUT_MS": "60000"}),
)
DYING = Row(
    name="worker-dying",
    arguments=("-m", "tests.faults.dying_worker", "--stages", ",".join(QUERY)),
    env={"PYTHONPATH": str(ROOT)},
)


@dataclass
class Reader:
    """Follows one question in a thread."""

    url: str
    events: list[AnswerEvent] = field(default_factory=list)
    accepted: threading.Event = field(default_factory=threading.Event)
    took_s: float = 0.0

    def read(self, question: str) -> None:
        began = time.monotonic()
        with Client(self.url, "acme-key") as client:
            for event in client.query_stream(question):
                self.events.append(event)
                self.accepted.set()
        self.took_s = time.monotonic() - began

    @property
    def names(self) -> list[str]:
        return [event.event for event in self.events]


@pytest.fixture(scope="module")
def deserted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of two gateways and no worker, the first of which gives its questions little time."""
    with running(tmp_path_factory.mktemp("deserted"), Options(processes=GATEWAYS)) as stack:
        yield stack


def test_a_question_ends_in_time_while_every_worker_is_down(deserted: Stack) -> None:
    reader = Reader(deserted.urls[0])

    reader.read("Is anybody there?")

    assert reader.names == ["accepted", "error"]
    assert reader.events[-1].data["type"].endswith("deadline_exceeded")
    assert IMPATIENT_S - 0.1 <= reader.took_s <= IMPATIENT_S + GRACE_S


def test_a_worker_that_dies_before_it_publishes_the_end_has_it_published_once_for_the_reader(deserted: Stack) -> None:
    reader = Reader(deserted.urls[1])
    with ThreadPoolExecutor() as threads:
        reading = threads.submit(reader.read, "Will the worker die ?")
        assert reader.accepted.wait(20)
        with deserted.beside(DYING, wait=False) as dying:
            reading.result(60)
            assert dying.process.wait(10) == EXIT_DEAD

    assert reader.names.count("token") >= 1
    assert [name for name in reader.names if name != "token"] == ["accepted", "sources", "answer", "done"]
    query = reader.events[0].data["id"]
    row = deserted.sql("SELECT outcome, attempt, answer ->> 'text' AS text FROM queries WHERE id = $1", query)[0]
    assert (row["outcome"], row["attempt"], row["text"]) == ("done", 1, joined(reader.events))
    assert [result.answer.text for result in results(deserted) if result.query == query and result.answer] == [
        row["text"]
    ]
