"""A question's row under any mix of workers, gateways and time: both stores do what one model does, and end it once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from backbone.postgres import open_pool
from backbone.settings import PostgresSettings
from gateway.questions import NO_PLACE, PostgresQuestionRows
from gateway.swept_rows import PostgresSweptRows
from schemas.events import Answer
from schemas.ids import QueryId, new_query_id
from streams.adapters.postgres_questions import PostgresQuestions
from streams.ports import Ending, QuestionStore
from tests.doubles.question_store import MemoryQuestions, QuestionRow
from tests.examples import try_out

T = TypeVar("T")
WORKERS: Final = ("w1", "w2", "w3")
OPEN: Final = ("pending", "claimed")
ENDINGS: Final = {
    "done": Ending(outcome="done", terminal_seq=1, answer=Answer(text="Yes.")),
    "cancelled": Ending(outcome="cancelled", terminal_seq=0, answer=Answer(text="Ye")),
    "error": Ending(outcome="error", terminal_seq=NO_PLACE, reason="bug", message="Something broke."),
}


@dataclass(frozen=True, kw_only=True)
class World:
    """The row as workers have it, and what gateways and time do to it.

    Attributes:
        store: of a worker, by its name.
        ask: makes a row.
        lapse: lets the lease of a claim run out; `end_time` the question's own time.
        cancel: a gateway asks for the cancelling; whether it could.
        finish_cancelled: a gateway ends it as cancelled, in this attempt; whether it could.
        reject: a gateway takes it back; whether it could.
        requeue, expire: a sweeper's round; whether the question was in it.
        seen: state, attempt, outcome, lapses.
    """

    store: Callable[[str], QuestionStore]
    ask: Callable[[], Awaitable[QueryId]]
    lapse: Callable[[QueryId], Awaitable[None]]
    end_time: Callable[[QueryId], Awaitable[None]]
    cancel: Callable[[QueryId], Awaitable[bool]]
    finish_cancelled: Callable[[QueryId, int], Awaitable[bool]]
    reject: Callable[[QueryId], Awaitable[bool]]
    requeue: Callable[[QueryId], Awaitable[bool]]
    expire: Callable[[QueryId], Awaitable[bool]]
    seen: Callable[[QueryId], Awaitable[tuple[str, int, str | None, int]]]


def in_memory() -> World:
    """The double of the workers' port; gateways change its rows, as theirs is another double."""
    rows: dict[QueryId, QuestionRow] = {}
    requeued: set[QueryId] = set()

    async def ask() -> QueryId:
        query = new_query_id()
        rows[query] = QuestionRow()
        return query

    async def lapse(query: QueryId) -> None:
        rows[query].lapsed = True

    async def end_time(query: QueryId) -> None:
        rows[query].in_time = False

    async def cancel(query: QueryId) -> bool:
        if rows[query].state not in OPEN:
            return False
        rows[query].cancel_asked = True
        return True

    async def finish_cancelled(query: QueryId, attempt: int) -> bool:
        row = rows[query]
        if row.state not in OPEN or row.attempt != attempt:
            return False
        row.state, row.outcome = "finished", "cancelled"
        return True

    async def reject(query: QueryId) -> bool:
        row = rows[query]
        if row.state != "pending" or row.attempt or query in requeued:
            return False
        row.state = "rejected"
        return True

    async def requeue(query: QueryId) -> bool:
        row = rows[query]
        if row.state != "claimed" or not row.lapsed or not row.in_time:
            return False
        row.lapses += row.claimed_by is not None
        row.state, row.claimed_by, row.lapsed = "pending", None, False
        requeued.add(query)
        return True

    async def expire(query: QueryId) -> bool:
        row = rows[query]
        if row.state not in OPEN or row.in_time:
            return False
        row.state, row.outcome = "finished", "error"
        return True

    async def seen(query: QueryId) -> tuple[str, int, str | None, int]:
        row = rows[query]
        return row.state, row.attempt, row.outcome, row.lapses

    return World(
        store=lambda worker: MemoryQuestions(rows=rows, worker=worker),
        ask=ask,
        lapse=lapse,
        end_time=end_time,
        cancel=cancel,
        finish_cancelled=finish_cancelled,
        reject=reject,
        requeue=requeue,
        expire=expire,
        seen=seen,
    )


def in_postgres(pool: Any) -> World:
    """The adapters of workers and of gateways on one table."""
    gateway, sweeper = (
        PostgresQuestionRows(pool=pool, alias="live"),
        PostgresSweptRows(pool=pool, republish_after_s=2.0),
    )

    async def ask() -> QueryId:
        query = new_query_id()
        # nothing of another example is swept
        await pool.execute("TRUNCATE queries")
        await pool.execute(
            "INSERT INTO queries (id, tenant, question, reply_partition, deadline, generation) VALUES ($1, 'acme', "
            """'{"query": "q", "tenant": "acme", "text": "?", "kind": "answer", "top_k": 1, "reply_partition": 0, """
            """"deadline_ms": 1, "asked_ms": 0, "generation": "g1"}', 0, now() + interval '1 hour', 'g1')""",
            query,
        )
        return query

    async def change(what: str, query: QueryId) -> None:
        await pool.execute(f"UPDATE queries SET {what} WHERE id = $1", query)

    async def finish_cancelled(query: QueryId, attempt: int) -> bool:
        ended = await gateway.finish_cancelled(query, attempt=attempt, answer=Answer(text=""), terminal_seq=NO_PLACE)
        return ended is not None

    async def requeue(query: QueryId) -> bool:
        return any(each.lapsed for each in await sweeper.requeue(10))

    async def expire(query: QueryId) -> bool:
        return bool(await sweeper.expire(10))

    async def seen(query: QueryId) -> tuple[str, int, str | None, int]:
        row = await pool.fetchrow("SELECT state, attempt, outcome, lapses FROM queries WHERE id = $1", query)
        return tuple(row)

    return World(
        store=lambda worker: PostgresQuestions(pool=pool, worker=worker, lease_s=3_600.0),
        ask=ask,
        lapse=partial(change, "lease_until = now() - interval '1 ms'"),
        end_time=partial(change, "deadline = now() - interval '1 ms'"),
        cancel=gateway.request_cancel,
        finish_cancelled=finish_cancelled,
        reject=gateway.reject,
        requeue=requeue,
        expire=expire,
        seen=seen,
    )


@dataclass
class Row:
    """The model. `by` is None while nobody has claimed the question, and after it was given back."""

    state: str = "pending"
    attempt: int = 0
    by: str | None = None
    lapsed: bool = False
    lapses: int = 0
    cancel: bool = False
    late: bool = False
    requeued: bool = False
    outcome: str | None = None
    n_ends: int = 0
    claims: dict[str, int] = field(default_factory=dict)

    def free_for(self, worker: str) -> bool:
        return self.state == "pending" or (self.state == "claimed" and (self.by == worker or self.lapsed))

    def held_by(self, worker: str, attempt: int) -> bool:
        return (self.state, self.by, self.attempt) == ("claimed", worker, attempt)

    def end(self, outcome: str) -> None:
        self.state, self.outcome, self.n_ends = "finished", outcome, self.n_ends + 1


class QuestionMachine(RuleBasedStateMachine):
    """One question; `attempts` are those that some worker believes to hold."""

    attempts = Bundle("attempts")

    def __init__(self, world: World, runner: asyncio.Runner) -> None:
        super().__init__()
        self.world, self.runner = world, runner
        self.row = Row()

    def do(self, call: Awaitable[T]) -> T:
        async def wait() -> T:
            return await call

        return self.runner.run(wait())

    @initialize()
    def ask(self) -> None:
        self.query = self.do(self.world.ask())

    @rule(target=attempts, worker=st.sampled_from(WORKERS))
    def claim(self, worker: str) -> tuple[str, int]:
        row, claim = self.row, self.do(self.world.store(worker).claim(self.query))
        if row.late or not row.free_for(worker):
            assert claim is None
            return worker, row.attempt
        lapses = row.lapses + (row.state == "claimed" and row.by not in (None, worker))
        assert claim is not None
        assert (claim.attempt, claim.taken_over, claim.lapses, claim.cancel_asked_s is not None) == (
            row.attempt + 1,
            row.attempt > 0 and row.by != worker,
            lapses,
            row.cancel,
        )
        row.state, row.attempt, row.by, row.lapsed, row.lapses = "claimed", row.attempt + 1, worker, False, lapses
        return worker, claim.attempt

    @rule(held=attempts)
    def renew(self, held: tuple[str, int]) -> None:
        renewed = self.do(self.world.store(held[0]).renew(self.query, held[1]))
        assert (renewed is not None) == self.row.held_by(*held)
        if renewed is not None:
            assert (renewed.cancel_asked_s is not None) == self.row.cancel
            self.row.lapsed = False

    @rule(held=attempts)
    def release(self, held: tuple[str, int]) -> None:
        self.do(self.world.store(held[0]).release(self.query, held[1]))
        if self.row.held_by(*held):
            self.row.by, self.row.lapsed = None, True

    @rule(held=attempts, outcome=st.sampled_from(["done", "done", "cancelled"]))
    def finish(self, held: tuple[str, int], outcome: str) -> None:
        row, ended = self.row, self.do(self.world.store(held[0]).finish(self.query, held[1], ENDINGS[outcome]))
        may = row.held_by(*held) and not row.late and not (outcome == "done" and row.cancel)
        assert (ended is not None) == may
        if ended is not None:
            assert ended.attempt == held[1]
            row.end(outcome)

    @rule(worker=st.sampled_from(WORKERS))
    def fail(self, worker: str) -> None:
        ended = self.do(self.world.store(worker).fail(self.query, ENDINGS["error"]))
        assert (ended is not None) == self.row.free_for(worker)
        if ended is not None:
            self.row.end("error")

    @rule()
    def lapse(self) -> None:
        if self.row.state == "claimed":
            self.do(self.world.lapse(self.query))
            self.row.lapsed = True

    @rule(unlikely=st.integers(0, 3))
    def end_time(self, unlikely: int) -> None:
        if unlikely == 0:
            self.do(self.world.end_time(self.query))
            self.row.late = True

    @rule(unlikely=st.integers(0, 3))
    def cancel(self, unlikely: int) -> None:
        if unlikely == 0:
            assert self.do(self.world.cancel(self.query)) == (self.row.state in OPEN)
            self.row.cancel |= self.row.state in OPEN

    @rule(unlikely=st.integers(0, 3), back=st.integers(0, 1))
    def finish_cancelled(self, unlikely: int, back: int) -> None:
        if unlikely == 0:
            attempt = self.row.attempt - back
            may = self.row.state in OPEN and back == 0
            assert self.do(self.world.finish_cancelled(self.query, attempt)) == may
            if may:
                self.row.end("cancelled")

    @rule(unlikely=st.integers(0, 9))
    def reject(self, unlikely: int) -> None:
        if unlikely == 0:
            row = self.row
            may = row.state == "pending" and row.attempt == 0 and not row.requeued
            assert self.do(self.world.reject(self.query)) == may
            row.state = "rejected" if may else row.state

    @rule()
    def requeue(self) -> None:
        row = self.row
        may = row.state == "claimed" and row.lapsed and not row.late
        assert self.do(self.world.requeue(self.query)) == may
        if may:
            row.lapses += row.by is not None
            row.state, row.by, row.lapsed, row.requeued = "pending", None, False, True

    @rule()
    def expire(self) -> None:
        may = self.row.state in OPEN and self.row.late
        assert self.do(self.world.expire(self.query)) == may
        if may:
            self.row.end("error")

    @invariant()
    def it_is_as_the_model_has_it_and_ends_at_most_once(self) -> None:
        if hasattr(self, "query"):
            row = self.row
            assert self.do(self.world.seen(self.query)) == (row.state, row.attempt, row.outcome, row.lapses)
            assert row.n_ends == (row.state == "finished")


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def world(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Iterator[World]:
    if request.param == "double":
        yield in_memory()
        return
    settings = PostgresSettings.model_validate({"postgres_dsn": request.getfixturevalue("dsn")})
    pool = runner.run(open_pool(settings))
    yield in_postgres(pool)
    runner.run(pool.close())


def test_any_mix_of_workers_gateways_and_time_ends_a_question_once(world: World, runner: asyncio.Runner) -> None:
    try_out(partial(QuestionMachine, world, runner), 80, steps=40)
