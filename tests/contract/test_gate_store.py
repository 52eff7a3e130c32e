"""What every `GateStore` does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest
import uuid_utils

from schemas.events import Filters
from streams.adapters.postgres_gates import PostgresGates
from streams.errors import Transient
from streams.operator.gate.question import Question
from streams.operator.gate.result import Result, Side, Source
from streams.operator.gate.run import Gate, GateStore, Sets
from tests.doubles.gates import MemoryGates

QUESTION = Question(
    set="own", kind="labelled", tenant="acme", text="Wie hoch? ü", relevant={"d": 2}, passage="so hoch", answers=["9"]
)
FIRST, SECOND = (
    Gate(
        id=str(uuid_utils.uuid7()),
        candidate="g2",
        base="g1",
        tenant="acme",
        margin=0.05,
        sets=Sets(golden=True, logged=2, labelled=[QUESTION]),
    )
    for _ in range(2)
)
SIDE = Side(
    measures={"ndcg": 0.5}, sources=[Source(document="d", text="<b>", score=0.25)], answer="9 [1]", seconds=0.125
)
RESULT = Result(
    set="own", kind="labelled", tenant="acme", text="?", base=SIDE, candidate=SIDE, likeness={"overlap": 1.0}
)
REPORT = {"verdict": "equal", "reason": "nothing is worse", "sets": []}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A store. `lapse`: the worker of a gate is silent for too long; `age`: it ended so many days ago;
    `shown`: state, why, progress; `told`: whether its report is kept.
    """

    store: GateStore
    ask: Callable[[Gate], Awaitable[None]]
    lapse: Callable[[Gate], Awaitable[None]]
    cancel: Callable[[Gate], Awaitable[None]]
    log: Callable[[str, Filters], Awaitable[None]]
    document: Callable[[str, str], Awaitable[None]]
    age: Callable[[Gate, int], Awaitable[None]]
    shown: Callable[[Gate], Awaitable[tuple[str, str | None, dict[str, Any]]]]
    told: Callable[[Gate], Awaitable[bool]]
    shadow: Callable[[str, str, Result], Awaitable[None]]

    async def taken(self) -> Gate | None:
        async with self.store.next() as gate:
            return gate


def in_memory() -> Bench:
    store = MemoryGates()

    async def ask(gate: Gate) -> None:
        store.asked.append(gate)

    async def lapse(gate: Gate) -> None:
        store.held.discard(gate.id)

    async def cancel(gate: Gate) -> None:
        store.ended[gate.id] = ("cancelled", None)

    async def log(text: str, filters: Filters) -> None:
        asked = Question(set="logged", kind="logged", tenant="acme", text=text, filters=filters)
        if asked not in store.log:
            store.log.append(asked)

    async def document(tenant: str, name: str) -> None:
        store.documents.add((tenant, name))

    async def age(gate: Gate, days: int) -> None:
        if days > 30:
            store.old.add(gate.id)

    async def shown(gate: Gate) -> tuple[str, str | None, dict[str, Any]]:
        return *store.ended.get(gate.id, ("running", None)), store.told.get(gate.id, {})

    async def told(gate: Gate) -> bool:
        return gate.id in store.reports

    async def shadow(candidate: str, base: str, result: Result) -> None:
        store.shadows.append((candidate, base, result))

    return Bench(
        store=store,
        ask=ask,
        lapse=lapse,
        cancel=cancel,
        log=log,
        document=document,
        age=age,
        shown=shown,
        told=told,
        shadow=shadow,
    )


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "double":
        return in_memory()
    pool = request.getfixturevalue("pool")

    async def ask(gate: Gate) -> None:
        await pool.execute(
            "INSERT INTO generations (generation, chunker, embedder, dim) VALUES ('g2', 'tokens', 'test', 4) "
            "ON CONFLICT DO NOTHING"
        )
        await pool.execute(
            "INSERT INTO gates (id, candidate, base, tenant, margin, sets) VALUES ($1, $2, $3, $4, $5, $6)",
            gate.id,
            gate.candidate,
            gate.base,
            gate.tenant,
            gate.margin,
            msgspec.to_builtins(gate.sets),
        )

    async def lapse(gate: Gate) -> None:
        await pool.execute("UPDATE gates SET lease_until = now() - interval '1 second' WHERE id = $1", gate.id)

    async def cancel(gate: Gate) -> None:
        await pool.execute("UPDATE gates SET state = 'cancelled' WHERE id = $1", gate.id)

    async def log(text: str, filters: Filters) -> None:
        asked = {"text": text, "kind": "answer", "filters": msgspec.to_builtins(filters)}
        await pool.execute(
            "INSERT INTO queries (id, tenant, question, state, reply_partition, deadline, generation) "
            "VALUES ($1, 'acme', $2, 'finished', 0, now(), 'g1')",
            str(uuid_utils.uuid7()),
            asked,
        )

    async def document(tenant: str, name: str) -> None:
        await pool.execute("INSERT INTO documents (tenant, document, latest_version) VALUES ($1, $2, 1)", tenant, name)

    async def age(gate: Gate, days: int) -> None:
        await pool.execute(
            "UPDATE gates SET finished_at = now() - make_interval(days => $2) WHERE id = $1", gate.id, days
        )

    async def shown(gate: Gate) -> tuple[str, str | None, dict[str, Any]]:
        row = await pool.fetchrow("SELECT state, why, progress FROM gates WHERE id = $1", gate.id)
        return row["state"], row["why"], row["progress"]

    async def told(gate: Gate) -> bool:
        return bool(await pool.fetchval("SELECT report IS NOT NULL FROM gates WHERE id = $1", gate.id))

    async def shadow(candidate: str, base: str, result: Result) -> None:
        await pool.execute(
            "INSERT INTO shadows (generation, query, base, state, lease_until, result, finished_at) "
            "VALUES ($1, $2, $3, 'done', now(), $4, now())",
            candidate,
            str(uuid_utils.uuid7()),
            base,
            msgspec.to_builtins(result),
        )

    return Bench(
        store=PostgresGates(pool=pool),
        ask=ask,
        lapse=lapse,
        cancel=cancel,
        log=log,
        document=document,
        age=age,
        shown=shown,
        told=told,
        shadow=shadow,
    )


async def test_what_waits_longest_is_taken_first_and_by_one_alone(bench: Bench) -> None:
    assert await bench.taken() is None
    await bench.ask(FIRST)
    await bench.ask(SECOND)

    assert await bench.taken() == FIRST
    assert await bench.taken() == SECOND
    assert await bench.taken() is None


async def test_what_a_dead_worker_left_is_taken_over_with_what_it_measured(bench: Bench) -> None:
    await bench.ask(FIRST)
    await bench.taken()
    assert await bench.store.keep(FIRST.id, 7, RESULT)
    await bench.lapse(FIRST)

    assert await bench.taken() == FIRST
    assert await bench.store.results(FIRST.id) == {7: RESULT}
    assert await bench.store.results(SECOND.id) == {}


async def test_what_is_broken_off_is_given_back_at_once(bench: Bench) -> None:
    await bench.ask(FIRST)

    with pytest.raises(Transient):
        async with bench.store.next():
            raise Transient("a part is away")

    assert await bench.taken() == FIRST
    assert await bench.taken() is None


async def test_the_first_result_of_a_question_holds(bench: Bench) -> None:
    await bench.ask(FIRST)
    await bench.taken()
    await bench.store.keep(FIRST.id, 0, RESULT)

    assert await bench.store.keep(FIRST.id, 0, Result.without(QUESTION, "why"))
    assert await bench.store.results(FIRST.id) == {0: RESULT}


async def test_a_verdict_ends_it(bench: Bench) -> None:
    await bench.ask(FIRST)
    await bench.taken()
    await bench.store.progress(FIRST.id, {"n_questions": 3, "n_asked": 1})
    await bench.store.progress(FIRST.id, {"n_asked": 2})
    await bench.store.finish(FIRST.id, REPORT)
    await bench.lapse(FIRST)

    assert await bench.taken() is None
    assert await bench.shown(FIRST) == ("finished", None, {"n_questions": 3, "n_asked": 2})
    assert await bench.told(FIRST)


async def test_a_failure_ends_it_and_says_why(bench: Bench) -> None:
    await bench.ask(FIRST)
    await bench.taken()
    await bench.store.fail(FIRST.id, "there is no generation 'g2'")
    await bench.lapse(FIRST)

    assert await bench.taken() is None
    assert await bench.shown(FIRST) == ("failed", "there is no generation 'g2'", {})


async def test_one_that_was_cancelled_stays_so(bench: Bench) -> None:
    await bench.ask(FIRST)
    await bench.taken()
    await bench.cancel(FIRST)

    assert not await bench.store.keep(FIRST.id, 0, RESULT)
    await bench.store.finish(FIRST.id, REPORT)
    await bench.store.fail(FIRST.id, "why")

    assert await bench.shown(FIRST) == ("cancelled", None, {})
    assert await bench.store.results(FIRST.id) == {}


async def test_the_log_gives_each_question_once_and_the_same_ones_again(bench: Bench) -> None:
    rights = Filters(groups=["board"], collection="c")
    for text, filters in (("a", Filters()), ("a", Filters()), ("a", rights), ("b", Filters())):
        await bench.log(text, filters)
    gate = Gate(id=SECOND.id, candidate="g2", base="g1", tenant="acme", margin=0.05, sets=Sets(logged=9))
    await bench.ask(gate)
    await bench.ask(FIRST)

    every = await bench.store.logged(gate)
    assert sorted((asked.text, asked.filters.groups) for asked in every) == [("a", []), ("a", ["board"]), ("b", [])]
    assert {(asked.set, asked.kind, asked.tenant) for asked in every} == {("logged", "logged", "acme")}
    some = await bench.store.logged(FIRST)
    assert len(some) == 2
    assert await bench.store.logged(FIRST) == some


async def test_documents_are_known_by_tenant(bench: Bench) -> None:
    await bench.document("acme", "a")
    await bench.document("globex", "b")

    assert set(await bench.store.known("acme", ["a", "b", "c"])) == {"a"}


async def test_texts_of_old_gates_are_forgotten_and_nothing_else(bench: Bench) -> None:
    for gate, days in ((FIRST, 31), (SECOND, 29)):
        await bench.ask(gate)
        await bench.taken()
        await bench.store.keep(gate.id, 0, RESULT)
        await bench.store.finish(gate.id, REPORT)
        await bench.age(gate, days)

    await bench.store.forget()
    await bench.store.forget()

    assert (await bench.store.results(FIRST.id), await bench.told(FIRST)) == ({}, False)
    assert (await bench.store.results(SECOND.id), await bench.told(SECOND)) == ({0: RESULT}, True)
    assert (await bench.shown(FIRST))[0] == "finished"


async def test_one_under_way_is_never_forgotten(bench: Bench) -> None:
    await bench.ask(FIRST)
    await bench.taken()
    await bench.store.keep(FIRST.id, 0, RESULT)

    await bench.store.forget()

    assert await bench.store.results(FIRST.id) == {0: RESULT}


async def test_the_newest_shadows_of_the_pair_are_given_as_they_are(bench: Bench) -> None:
    gate = msgspec.structs.replace(FIRST.sets, shadowed=2)
    asked = replace(FIRST, sets=gate)
    await bench.ask(asked)
    for number in range(3):
        await bench.shadow("g2", "g1", msgspec.structs.replace(RESULT, text=f"q{number}"))
    await bench.shadow("g1", "g2", RESULT)

    assert [each.text for each in await bench.store.shadowed(asked)] == ["q2", "q1"]
