"""What every `GateRows` does."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.auth import Caller
from gateway.gate_rows import PostgresGateRows
from gateway.gates import LabelledQuestion
from gateway.ports import GateRows
from schemas.events import Filters
from schemas.ids import Tenant
from streams.adapters.postgres_gates import PostgresGates
from streams.operator.gate.question import Question
from tests.doubles.gate_rows import MemoryGateRows

SETS: dict[str, Any] = {"golden": True, "logged": 3, "labelled": []}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Rows. `finish` gives one a verdict, so many seconds ago; `prepare` makes g2 beside g1."""

    rows: GateRows
    prepare: Callable[[], Awaitable[None]]
    finish: Callable[[str, str, float], Awaitable[None]]

    async def ask(self, candidate: str = "g2", base: str = "g1") -> Mapping[str, Any] | None:
        await self.prepare()
        return await self.rows.ask(candidate=candidate, base=base, tenant="acme", margin=0.1, sets=SETS)


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "double":
        memory = MemoryGateRows()

        async def end(id: str, verdict: str, age_s: float) -> None:
            row = next(row for row in memory.rows if row["id"] == id)
            row |= {"state": "finished", "verdict": verdict, "reason": "so", "report": {"a": 1}}
            row |= {"passed": verdict == "equal", "finished_at": datetime.now(UTC) - timedelta(seconds=age_s)}

        async def nothing() -> None: ...

        return Bench(rows=memory, prepare=nothing, finish=end)
    pool = request.getfixturevalue("pool")

    async def finish(id: str, verdict: str, age_s: float) -> None:
        await pool.execute(
            "UPDATE gates SET state = 'finished', verdict = $2, reason = 'so', report = '{\"a\": 1}', "
            "finished_at = now() - make_interval(secs => $3) WHERE id = $1",
            id,
            verdict,
            age_s,
        )

    async def prepare() -> None:
        await make_candidate(pool)

    return Bench(rows=PostgresGateRows(pool=pool), prepare=prepare, finish=finish)


async def make_candidate(pool: Any) -> None:
    await pool.execute(
        "INSERT INTO generations (generation, chunker, embedder, dim) VALUES ('g2', 'tokens', 'test', 4) "
        "ON CONFLICT DO NOTHING"
    )


async def test_what_is_asked_for_waits_and_is_found_again(bench: Bench) -> None:
    assert await bench.rows.latest("g2") is None

    asked = await bench.ask()

    assert set(await bench.rows.generations()) >= {"g1", "g2"}
    assert asked is not None
    assert (asked["candidate"], asked["base"], asked["margin"]) == ("g2", "g1", 0.1)
    assert (asked["state"], asked["passed"], asked["verdict"], asked["report"]) == ("asked", False, None, None)
    assert await bench.rows.latest("g2") == asked
    assert await bench.rows.latest("g1") is None
    assert await bench.rows.judged("g2", "g1") is None


async def test_one_candidate_is_judged_once_at_a_time(bench: Bench) -> None:
    assert await bench.ask() is not None

    assert await bench.ask() is None
    assert await bench.ask("g1", "g2") is not None


async def test_the_last_verdict_of_a_pair_counts_with_its_age(bench: Bench) -> None:
    ids = []
    for verdict, age_s in (("worse", 90.0), ("equal", 30.0)):
        asked = await bench.ask()
        assert asked is not None
        ids.append(asked["id"])
        await bench.finish(asked["id"], verdict, age_s)

    judged = await bench.rows.judged("g2", "g1")

    assert judged is not None
    assert (judged["verdict"], judged["passed"], judged["reason"], judged["margin"]) == ("equal", True, "so", 0.1)
    assert judged["id"] == ids[-1]
    assert 30 <= judged["age_s"] < 60
    assert await bench.rows.judged("g1", "g2") is None
    latest = await bench.rows.latest("g2")
    assert latest is not None
    assert (latest["passed"], latest["report"]) == (True, {"a": 1})


async def test_one_that_failed_its_candidate_has_not_passed(bench: Bench) -> None:
    asked = await bench.ask()
    assert asked is not None
    await bench.finish(asked["id"], "unsure", 1)

    judged = await bench.rows.judged("g2", "g1")

    assert judged is not None
    assert (judged["verdict"], judged["passed"]) == ("unsure", False)


async def test_what_is_under_way_can_be_cancelled_and_nothing_else(bench: Bench) -> None:
    assert not await bench.rows.cancel("g2")
    await bench.ask()

    assert await bench.rows.cancel("g2")
    assert not await bench.rows.cancel("g2")
    latest = await bench.rows.latest("g2")
    assert latest is not None
    assert latest["state"] == "cancelled"
    assert await bench.ask() is not None


@pytest.mark.integration
async def test_the_worker_reads_the_questions_as_they_were_asked(pool: Any) -> None:
    await make_candidate(pool)
    asked = LabelledQuestion(
        question="Wie hoch?",
        documents={"d": 2},
        passage="so hoch",
        answers=["9"],
        groups=["board"],
        collection="c",
        set="mine",
    )
    sets = {"golden": True, "logged": 3, "labelled": [asked.stored(Caller(tenant=Tenant("acme")))]}
    await PostgresGateRows(pool=pool).ask(candidate="g2", base="g1", tenant="acme", margin=0.1, sets=sets)

    async with PostgresGates(pool=pool).next() as gate:
        assert gate is not None
        assert (gate.candidate, gate.base, gate.tenant, gate.margin) == ("g2", "g1", "acme", 0.1)
        assert (gate.sets.golden, gate.sets.logged) == (True, 3)
        assert gate.sets.labelled == [
            Question(
                set="mine",
                kind="labelled",
                tenant="acme",
                text="Wie hoch?",
                relevant={"d": 2},
                passage="so hoch",
                answers=["9"],
                filters=Filters(groups=["board"], collection="c"),
            )
        ]
