"""What every `ShadowStore` does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest

from schemas.events import Filters
from schemas.ids import new_query_id
from streams.adapters.postgres_shadows import PostgresShadows
from streams.operator.gate.question import Question
from streams.operator.gate.result import Result, Side, Source
from streams.operator.shadow import KEPT, LATE_S, SET, Shadow, ShadowStore
from tests.doubles.shadows import EndedQuestion, MemoryShadows, ShadowRow, place

FILTERS = Filters(groups=["board"], collection="c", metadata={"year": [1911]}, where={"lang": {"$ne": "de"}})
SIDE = Side(
    measures={"relevance": 0.5}, sources=[Source(document="d", text="<b>", score=0.25)], answer="9 [1]", seconds=0.125
)
RESULT = Result(set=SET, kind="logged", tenant="acme", text="?", base=SIDE, candidate=SIDE, likeness={"overlap": 1.0})


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A store, with the candidate g2 beside g1, which answers. `share` gives it one, so many seconds ago; `lapse`: the
    worker of a shadow is silent for too long; `counts`: how many shadows there are, of each state."""

    store: ShadowStore
    share: Callable[[float, float], Awaitable[None]]
    end: Callable[[EndedQuestion], Awaitable[None]]
    pause: Callable[[], Awaitable[None]]
    lapse: Callable[[Shadow], Awaitable[None]]
    counts: Callable[[], Awaitable[dict[str, int]]]
    many: Callable[[int], Awaitable[None]]

    async def ask(self, text: str = "Wie hoch? ü", **changes: Any) -> EndedQuestion:
        question = Question(set="", kind="logged", tenant="acme", text=text, filters=FILTERS)
        ended = replace(EndedQuestion(query=new_query_id(), question=question), **changes)
        await self.end(ended)
        return ended


def in_memory() -> Bench:
    store = MemoryShadows(shares={"g2": 0.0})

    async def share(share: float, age_s: float) -> None:
        store.shares["g2"], store.since_s = share, age_s

    async def end(ended: EndedQuestion) -> None:
        store.ended.append(ended)

    async def pause() -> None:
        store.paused.add("g2")

    async def lapse(shadow: Shadow) -> None:
        store.rows[shadow.candidate, shadow.query].lapsed = True

    async def counts() -> dict[str, int]:
        states = [row.state for row in store.rows.values()]
        return {state: states.count(state) for state in set(states)}

    async def many(n: int) -> None:
        for _ in range(n):
            query = new_query_id()
            shadow = Shadow(
                candidate="g2",
                base="g1",
                query=query,
                question=Question(set=SET, kind="logged", tenant="acme", text="?"),
            )
            store.rows["g2", query] = ShadowRow(shadow=shadow, state="done", result=RESULT)

    return Bench(store=store, share=share, end=end, pause=pause, lapse=lapse, counts=counts, many=many)


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "double":
        return in_memory()
    pool = request.getfixturevalue("pool")

    async def share(share: float, age_s: float) -> None:
        await pool.execute("DELETE FROM generations WHERE generation = 'g2'")
        await pool.execute(
            "INSERT INTO generations (generation, chunker, embedder, dim, shadow_share, shadow_since, shadow_swept) "
            "SELECT 'g2', 'tokens', 'test', 4, $1, at, at FROM (SELECT now() - make_interval(secs => $2) AS at) AS t",
            share,
            age_s,
        )

    async def end(ended: EndedQuestion) -> None:
        question = ended.question
        await pool.execute(
            "INSERT INTO queries (id, tenant, question, state, outcome, reply_partition, deadline, generation, "
            "finished_at) VALUES ($1, $2, $3, 'finished', $4, 0, now(), $5, now() - make_interval(secs => $6))",
            ended.query,
            question.tenant,
            {"text": question.text, "kind": ended.kind, "filters": msgspec.to_builtins(question.filters)},
            ended.outcome,
            ended.generation,
            ended.age_s,
        )

    async def pause() -> None:
        await pool.execute("UPDATE generations SET state = 'paused' WHERE generation = 'g2'")

    async def lapse(shadow: Shadow) -> None:
        await pool.execute("UPDATE shadows SET lease_until = now() - interval '1 ms' WHERE query = $1", shadow.query)

    async def counts() -> dict[str, int]:
        return {row["state"]: row["n"] for row in await pool.fetch("SELECT state, count(*) n FROM shadows GROUP BY 1")}

    async def many(n: int) -> None:
        await pool.execute(
            "INSERT INTO shadows (generation, query, base, state, lease_until, result, finished_at) "
            "SELECT 'g2', gen_random_uuid(), 'g1', 'done', now(), $2, now() - make_interval(secs => i * 0.001) "
            "FROM generate_series(1, $1) AS i",
            n,
            msgspec.to_builtins(RESULT),
        )

    return Bench(
        store=PostgresShadows(pool=pool, alias="live"),
        share=share,
        end=end,
        pause=pause,
        lapse=lapse,
        counts=counts,
        many=many,
    )


async def test_nothing_is_taken_where_there_is_no_share(bench: Bench) -> None:
    await bench.share(0.0, 100.0)
    await bench.ask()

    assert list(await bench.store.take(5)) == []
    assert await bench.store.sweep() == (0, 0)
    assert await bench.store.unreported() == []


async def test_a_question_is_taken_once_with_the_rights_and_conditions_of_whoever_asked(bench: Bench) -> None:
    await bench.share(1.0, 100.0)
    asked = await bench.ask()

    [taken] = await bench.store.take(5)

    assert (taken.candidate, taken.base, taken.query) == ("g2", "g1", asked.query)
    assert taken.question == Question(set=SET, kind="logged", tenant="acme", text="Wie hoch? ü", filters=FILTERS)
    assert list(await bench.store.take(5)) == []


async def test_the_oldest_are_taken_first_and_no_more_than_asked_for(bench: Bench) -> None:
    await bench.share(1.0, 100.0)
    asked = [await bench.ask(f"q{age}", age_s=float(age)) for age in (9, 8, 7, 6, 5)]

    first = [each.query for each in await bench.store.take(3)]
    rest = [each.query for each in await bench.store.take(3)]

    assert first + rest == [each.query for each in asked]


@pytest.mark.parametrize(
    "changes",
    [{"outcome": "error"}, {"outcome": "cancelled"}, {"kind": "search"}, {"generation": "g2"}, {"age_s": LATE_S + 5}],
    ids=str,
)
async def test_only_what_was_answered_of_late_by_another_generation_is_taken(
    bench: Bench, changes: dict[str, Any]
) -> None:
    await bench.share(1.0, 1000.0)
    await bench.ask(**changes)

    assert list(await bench.store.take(5)) == []


async def test_what_ended_before_the_share_was_given_is_neither_taken_nor_dropped(bench: Bench) -> None:
    await bench.ask(age_s=20.0)
    await bench.ask(age_s=LATE_S + 30)
    await bench.share(1.0, 10.0)

    assert list(await bench.store.take(5)) == []
    assert await bench.store.sweep() == (0, 0)


async def test_one_that_is_paused_takes_nothing(bench: Bench) -> None:
    await bench.share(1.0, 100.0)
    await bench.ask()
    await bench.pause()

    assert list(await bench.store.take(5)) == []


async def test_a_share_is_told_by_the_hash_of_the_id(bench: Bench) -> None:
    await bench.share(0.3, 100.0)
    asked = [(await bench.ask(f"q{number}")).query for number in range(200)]

    taken = {each.query for each in await bench.store.take(500)}

    assert taken == {query for query in asked if place(query) < 0.3}
    assert 0 < len(taken) < 200


async def test_a_result_is_kept_once(bench: Bench) -> None:
    await bench.share(1.0, 100.0)
    await bench.ask()
    [taken] = await bench.store.take(5)

    assert await bench.store.keep(taken, RESULT)
    assert not await bench.store.keep(taken, RESULT)
    await bench.store.fail(taken, "too late")
    await bench.store.give_back(taken)

    assert await bench.counts() == {"done": 1}
    assert await bench.store.results("g2", "g1") == ([RESULT], 0)
    assert await bench.store.results("g2", "g3") == ([], 0)


async def test_what_is_given_back_is_taken_again_and_what_failed_is_not(bench: Bench) -> None:
    await bench.share(1.0, 100.0)
    await bench.ask()
    [taken] = await bench.store.take(5)

    await bench.store.give_back(taken)
    [again] = await bench.store.take(5)
    await bench.store.fail(again, "cannot be asked")

    assert again == taken
    assert list(await bench.store.take(5)) == []
    assert await bench.store.results("g2", "g1") == ([], 1)


async def test_what_a_dead_worker_took_is_taken_over_once_and_counted_once(bench: Bench) -> None:
    await bench.share(1.0, 100.0)
    await bench.ask()
    [taken] = await bench.store.take(5)
    await bench.lapse(taken)

    [again] = await bench.store.take(5)
    assert again == taken
    assert await bench.store.keep(again, RESULT)
    # the first one was only slow
    assert not await bench.store.keep(taken, RESULT)
    assert await bench.counts() == {"done": 1}


async def test_what_kills_its_workers_is_given_up(bench: Bench) -> None:
    await bench.share(1.0, 100.0)
    await bench.ask()
    for _ in range(2):
        [taken] = await bench.store.take(5)
        await bench.lapse(taken)

    assert list(await bench.store.take(5)) == []
    assert await bench.store.sweep() == (0, 1)
    assert await bench.store.sweep() == (0, 0)
    assert await bench.counts() == {"failed": 1}


async def test_what_nobody_took_in_time_is_counted_once(bench: Bench) -> None:
    await bench.share(1.0, 1000.0)
    for age_s in (LATE_S + 20, LATE_S + 30, 1.0):
        await bench.ask(age_s=age_s)
    [taken] = await bench.store.take(5)
    assert await bench.store.keep(taken, RESULT)

    assert await bench.store.sweep() == (2, 0)
    assert await bench.store.sweep() == (0, 0)


async def test_what_changed_is_reported_once(bench: Bench) -> None:
    await bench.share(1.0, 100.0)
    await bench.ask()
    [taken] = await bench.store.take(5)
    assert await bench.store.unreported() == []
    await bench.store.keep(taken, RESULT)

    [(candidate, base, mark)] = await bench.store.unreported()
    await bench.store.report(candidate, mark, {"n": 1})

    assert (candidate, base) == ("g2", "g1")
    assert await bench.store.unreported() == []
    await bench.ask("another")
    [taken] = await bench.store.take(5)
    await bench.store.fail(taken, "why")
    assert len(await bench.store.unreported()) == 1


async def test_no_more_than_the_newest_are_kept(bench: Bench) -> None:
    await bench.share(1.0, 100.0)
    await bench.many(KEPT + 7)

    await bench.store.sweep()

    assert await bench.counts() == {"done": KEPT}
