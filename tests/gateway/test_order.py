"""What passes of a log of replies: a model of workers that die, come back as zombies and publish again."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from backbone.settings import GatewaySettings
from gateway.admission import Admission
from gateway.answering import AnswerEvent, answer_events
from gateway.asking import Asked
from gateway.log.shared import SharedLog
from gateway.order import ReplyOrder
from gateway.replies import Replies
from schemas.events import Answer, Reply, Scores
from tests.doubles.blobs import MemoryBlobs
from tests.doubles.partition_log import MemoryLog
from tests.gateway.factories import EVIDENCE, own_admission, question

QUESTION = question(reply_partition=0)
FIRST = 7


@dataclass(frozen=True)
class Scenario:
    """A log, how it ends, and how a reader reads it: from which memory, cut after how many events each time."""

    replies: list[Reply]
    text: str
    end: str
    memory: int
    cuts: list[int]


def said(type: str, attempt: int, seq: int, **fields: Any) -> Reply:
    return Reply(query=QUESTION.query, tenant=QUESTION.tenant, type=type, attempt=attempt, seq=seq, **fields)


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    n_attempts = draw(st.integers(1, 3))
    end = draw(st.sampled_from(["done", "done", "done", "error", "cancelled"]))
    tokens = [draw(st.lists(st.text(min_size=1, max_size=3), max_size=5)) for _ in range(n_attempts)]
    lines = [
        [said("token", attempt, seq, token=token) for seq, token in enumerate(each)]
        for attempt, each in enumerate(tokens, 1)
    ]
    text, seq = "".join(tokens[-1]), len(tokens[-1])
    match end:
        case "done":
            answer = Answer(text=text, abstained=False)
            ending = [said("answer", n_attempts, seq, answer=answer), said("done", n_attempts, seq + 1)]
        case "cancelled":
            ending = [said("cancelled", n_attempts, seq, answer=Answer(text=text))]
        case _:
            ending = [said("error", n_attempts, -1, error="failed", message="it failed")]
    lines[-1] += ending
    # A taken over attempt may go on as a zombie: any merge of the lines in which each one begins in its turn.
    merged: list[Reply] = [said("sources", 0, 0, evidence=[EVIDENCE])]
    rest = [list(line) for line in lines]
    while any(rest):
        begun = next((n for n, line in enumerate(rest) if len(line) == len(lines[n]) and line), len(rest) - 1)
        choices = [n for n, line in enumerate(rest) if line and n <= begun]
        merged.append(rest[draw(st.sampled_from(choices))].pop(0))
    # Anything may be published again, later.
    log: list[Reply] = []
    for each in merged:
        log.append(each)
        if draw(st.booleans()):
            log.append(draw(st.sampled_from(log)))
    log += draw(st.lists(st.sampled_from(ending), max_size=2))
    if end == "done":
        log.append(said("score", n_attempts, -1, scores=Scores(faithfulness=0.5)))
    return Scenario(
        replies=log,
        text=text,
        end=end,
        memory=draw(st.integers(0, len(log))),
        cuts=draw(st.lists(st.integers(1, 4), max_size=4)),
    )


@dataclass
class Services:
    """What `answer_events` uses of the services here."""

    replies: Replies
    admission: Admission = field(default_factory=lambda: own_admission(GatewaySettings()))


async def read(scenario: Scenario) -> list[AnswerEvent]:
    """Read the answer as a client that breaks off and comes again."""
    log = MemoryLog("answers", {0: FIRST})
    for each in scenario.replies:
        log.append(0, each.query.encode(), msgspec.json.encode(each))
    replies = Replies(log.open, MemoryBlobs())
    replies.log = SharedLog(log.open, warm_records=scenario.memory)
    running = asyncio.create_task(replies.log.run())
    events: list[AnswerEvent] = []
    asked = Asked(event=QUESTION, reply_offset=FIRST, started_s=time.monotonic())
    place: str | None = None
    async with asyncio.timeout(10):
        for cut in [*scenario.cuts, 1_000]:
            stream = answer_events(Services(replies), asked, last_seen=place, score_wait_s=1)  # type: ignore[arg-type]
            async for event in stream:
                events.append(event)
                place = event.place or place
                cut -= 1
                if cut == 0:
                    break
            await stream.aclose()
            if events[-1].name in ("done", "error", "cancelled"):
                break
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return events


@settings(max_examples=150, deadline=None)
@given(scenarios())
def test_whatever_the_log_holds_a_reader_gets_one_whole_answer_and_one_end(scenario: Scenario) -> None:
    events = asyncio.run(read(scenario))

    names = [event.name for event in events]
    assert sum(name in ("done", "error", "cancelled") for name in names) == 1
    assert names[-1] == scenario.end
    places = [int(event.place.split(":")[1]) for event in events if event.place]
    assert places == sorted(set(places))
    text = ""
    for event in events:
        text = "" if event.name == "reset" else text + str(event.data.get("text", "")) * (event.name == "token")
    if scenario.end == "done":
        assert text == scenario.text
        answers = [event.data["answer"] for event in events if event.name == "answer"]
        assert answers[-1] == scenario.text


@settings(max_examples=300, deadline=None)
@given(scenarios())
def test_of_each_attempt_only_the_next_place_passes(scenario: Scenario) -> None:
    order, passed = ReplyOrder(), []
    for each in scenario.replies:
        if order.admit(each) != "drop" and each.seq >= 0 and each.type not in ("error", "cancelled"):
            passed.append((each.attempt, each.seq))
    by_attempt: dict[int, list[int]] = {}
    for attempt, seq in passed:
        by_attempt.setdefault(attempt, []).append(seq)
    assert passed == sorted(passed)
    assert all(seqs == list(range(len(seqs))) for seqs in by_attempt.values())
