"""The handler of evals, and what becomes of a question when several workers handle its parts at once."""

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from schemas.events import EvalLogged, FeedbackGiven, QueryFinished, QueryScored, Scores
from schemas.topics import EVALS
from streams.evaluate.handler import Evaluate, Told
from streams.runtime.record import Flush, Inbound, Origin, Outbound
from tests.doubles.eval_store import MemoryEvals

RESULT = QueryFinished(
    query="q1",
    tenant="acme",
    text="Why?",
    outcome="done",
    attempt=1,
    generation="g1",
    reply_partition=0,
    asked_ms=1_000,
    finished_ms=1_500,
)
SCORED = QueryScored(
    query="q1", tenant="acme", attempt=1, scores=Scores(faithfulness=0.9, scorer="sentences@1"), scored_ms=1_520
)
UP = FeedbackGiven(query="q1", tenant="acme", rating="up", given_ms=2_000)
DOWN = FeedbackGiven(query="q1", tenant="acme", rating="down", given_ms=3_000)


def inbound(told: Told | None) -> Inbound[Told]:
    where = Origin(topic="rag.results.v1", topic_id="t", partition=0, offset=0)
    return Inbound(key=b"q1", event=told, raw=b"{}", origin=where, timestamp_ms=0)


async def published(evals: MemoryEvals, told: Told | None) -> list[Outbound]:
    return [out async for out in Evaluate(evals=evals)(inbound(told)) if isinstance(out, Outbound)]


async def revisions(evals: MemoryEvals, told: Told) -> list[tuple[int, float | None, str | None]]:
    events = [out.event for out in await published(evals, told)]
    return [(event.revision, event.faithfulness, event.rating) for event in events if isinstance(event, EvalLogged)]


async def test_the_row_is_logged_whole_with_every_part() -> None:
    evals = MemoryEvals()

    assert await revisions(evals, RESULT) == [(1, None, None)]
    assert await revisions(evals, SCORED) == [(2, 0.9, None)]
    assert await revisions(evals, UP) == [(3, 0.9, "up")]
    assert await revisions(evals, DOWN) == [(4, 0.9, "down")]


async def test_it_goes_to_the_evals_topic_by_the_questions_id() -> None:
    [out] = await published(MemoryEvals(), RESULT)

    assert (out.topic, out.key, out.partition) == (EVALS, b"q1", None)


async def test_nothing_is_logged_before_the_result() -> None:
    evals = MemoryEvals()

    assert await published(evals, UP) == []
    assert await published(evals, SCORED) == []
    assert await revisions(evals, RESULT) == [(3, 0.9, "up")]


async def test_a_part_that_comes_again_logs_the_row_as_it_stands() -> None:
    evals = MemoryEvals()
    for told in (RESULT, UP, DOWN):
        await published(evals, told)

    assert await revisions(evals, UP) == [(3, None, "down")]
    assert await revisions(evals, RESULT) == [(3, None, "down")]


async def test_another_tenants_feedback_and_a_tombstone_say_nothing() -> None:
    evals = MemoryEvals()
    await published(evals, RESULT)

    stranger = FeedbackGiven(query="q1", tenant="globex", rating="down", given_ms=2_000)
    assert await published(evals, stranger) == []
    assert await published(evals, None) == []


# --- several workers at once ----------------------------------------------------------------------


@dataclass(kw_only=True)
class Worker:
    """One handler at work: it goes on up to its next output; what it put out arrives in the log whenever `deliver` is
    called, and it does not pass a flush before."""

    outputs: AsyncIterator[Outbound | Flush]
    pending: list[EvalLogged] = field(default_factory=list)
    waiting: bool = False
    done: bool = False

    def steps(self) -> list[str]:
        """What may happen next."""
        go_on = [] if self.done or (self.waiting and self.pending) else ["go on"]
        return go_on + (["deliver"] if self.pending else [])

    async def step(self, kind: str, log: list[EvalLogged]) -> None:
        if kind == "deliver":
            log.append(self.pending.pop(0))
            return
        try:
            out = await anext(self.outputs)
        except StopAsyncIteration:
            self.done = True
            return
        self.waiting = isinstance(out, Flush)
        if isinstance(out, Outbound) and isinstance(out.event, EvalLogged):
            self.pending.append(out.event)


async def run(
    told: Sequence[Told], choose: Iterator[int] | random.Random
) -> tuple[MemoryEvals, list[EvalLogged], list[int]]:
    """Let one worker handle each event, in the order that `choose` says.

    Returns:
        The rows, the log, and how many choices there were each time.
    """
    evals = MemoryEvals()
    log: list[EvalLogged] = []
    widths: list[int] = []
    workers = [Worker(outputs=aiter(Evaluate(evals=evals)(inbound(event)))) for event in told]
    while options := [(worker, step) for worker in workers for step in worker.steps()]:
        widths.append(len(options))
        n = choose.randrange(len(options)) if isinstance(choose, random.Random) else next(choose, 0)
        worker, step = options[n]
        await worker.step(step, log)
    return evals, log, widths


async def every_order(told: Sequence[Told]) -> AsyncIterator[tuple[MemoryEvals, list[EvalLogged]]]:
    """Run through all orders in which the steps of the workers may happen."""
    path: list[int] = []
    while True:
        evals, log, widths = await run(told, iter(path))
        yield evals, log
        path += [0] * (len(widths) - len(path))
        while path and path[-1] + 1 == widths[len(path) - 1]:
            path.pop()
        if not path:
            return
        path[-1] += 1


@pytest.mark.parametrize("other", [SCORED, UP], ids=["scores", "feedback"])
async def test_two_workers_in_any_order_leave_the_newest_row_last(other: Told) -> None:
    n_overtaken = 0
    async for evals, log in every_order((RESULT, other)):
        _, row = evals.rows["q1"]  # type: ignore[index]
        assert log[-1].revision == row.revision
        n_overtaken += [event.revision for event in log] != sorted(event.revision for event in log)

    # among them are orders in which the older row comes after the newer one
    assert n_overtaken > 0


async def test_four_workers_in_many_orders_leave_the_newest_row_last() -> None:
    for seed in range(500):
        evals, log, _ = await run((RESULT, SCORED, UP, DOWN), random.Random(seed))

        _, row = evals.rows["q1"]  # type: ignore[index]
        assert log[-1].revision == row.revision, f"seed {seed}"
