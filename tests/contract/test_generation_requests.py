"""What every `GenerationRows` of the gateway does."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.generation_rows import PostgresGenerationRows
from gateway.ports import GenerationRows
from streams.adapters.postgres_generations import PostgresGenerations
from tests.doubles.generation_rows import MemoryGenerationRows

FIELDS = {"name", "chunker", "embedder", "lexical", "vectors", "dim", "state", "why", "created_at", "serving"}
FIELDS |= {"shadow_share"}
SWITCH_FIELDS = {
    "id",
    "generation",
    "previous",
    "kind",
    "forced",
    "gate",
    "state",
    "why",
    "asked_at",
    "moved_at",
    "finished_at",
}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Generation g1 answers; the others are what the operator stage does about what is wanted."""

    rows: GenerationRows
    made: Callable[[str, int], Awaitable[None]]
    failed: Callable[[str, str], Awaitable[None]]
    move: Callable[[], Awaitable[None]]
    settle: Callable[[], Awaitable[None]]


def in_memory() -> Bench:
    rows = MemoryGenerationRows()

    async def made(name: str, dim: int) -> None:
        rows.made(name, dim)

    async def failed(name: str, why: str) -> None:
        rows.failed(name, why)

    async def move() -> None:
        rows.move()

    async def settle() -> None:
        rows.settle()

    return Bench(rows=rows, made=made, failed=failed, move=move, settle=settle)


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "double":
        return in_memory()
    pool = request.getfixturevalue("generations_pool")
    operator = PostgresGenerations(pool=pool, alias="live")

    async def move() -> None:
        switch = await operator.switch()
        assert switch is not None
        assert await operator.move(switch)

    async def settle() -> None:
        switch = await operator.switch()
        assert switch is not None
        await operator.settle(switch)

    return Bench(
        rows=PostgresGenerationRows(pool=pool, alias="live"),
        made=operator.made,
        failed=operator.failed,
        move=move,
        settle=settle,
    )


async def switched(bench: Bench, name: str, previous: str = "g1") -> Mapping[str, Any] | None:
    return await bench.rows.switch(name, previous=previous, kind="switch", forced=False, gate=None, asked_by="acme")


async def states(bench: Bench) -> list[tuple[str, str]]:
    return [(each["generation"], each["state"]) for each in await bench.rows.switches(10)]


async def following(bench: Bench, *names: str) -> None:
    for name in names:
        assert await bench.rows.ask(name, chunker="tokens", embedder="e", lexical="tantivy", vectors="pgvector")
        await bench.made(name, 8)


async def test_one_that_is_asked_for_has_no_dimension_until_it_is_made(bench: Bench) -> None:
    assert await bench.rows.ask("g2", chunker="tokens", embedder="e", lexical="tantivy", vectors="pgvector")
    asked = await bench.rows.find("g2")
    assert asked is not None
    assert {*asked} == FIELDS
    assert [asked[name] for name in ("name", "chunker", "embedder")] == ["g2", "tokens", "e"]
    assert (asked["dim"], asked["state"], asked["why"], asked["serving"]) == (None, "asked", None, False)
    assert abs(asked["created_at"].timestamp() - time.time()) < 60

    await bench.made("g2", 8)
    made = await bench.rows.find("g2")
    assert made is not None
    assert (made["dim"], made["state"]) == (8, "following")


async def test_they_are_listed_the_oldest_first_and_one_of_them_answers(bench: Bench) -> None:
    await following(bench, "z", "a")

    assert [(each["name"], each["serving"]) for each in await bench.rows.all()] == [
        ("g1", True),
        ("z", False),
        ("a", False),
    ]
    assert await bench.rows.find("nowhere") is None


async def test_a_name_is_used_once_and_for_all(bench: Bench) -> None:
    await following(bench, "g2")
    assert not await bench.rows.ask("g2", chunker="other", embedder="other", lexical="tantivy", vectors="pgvector")
    assert await bench.rows.change("g2", "dropped", from_states=("following",))

    assert not await bench.rows.ask("g2", chunker="other", embedder="other", lexical="tantivy", vectors="pgvector")
    kept = await bench.rows.find("g2")
    assert kept is not None
    assert (kept["chunker"], kept["state"]) == ("tokens", "dropped")


async def test_a_state_changes_only_from_those_that_are_named(bench: Bench) -> None:
    await following(bench, "g2")

    assert not await bench.rows.change("g2", "following", from_states=("paused",))
    assert await bench.rows.change("g2", "paused", from_states=("following", "paused"))
    assert not await bench.rows.change("g2", "dropping", from_states=())
    assert not await bench.rows.change("nowhere", "paused", from_states=("following",))


async def test_why_it_failed_is_forgotten_when_its_state_changes(bench: Bench) -> None:
    await bench.rows.ask("g2", chunker="tokens", embedder="e", lexical="tantivy", vectors="pgvector")
    await bench.failed("g2", "no such embedder")
    failed = await bench.rows.find("g2")
    assert failed is not None
    assert (failed["state"], failed["why"]) == ("failed", "no such embedder")

    assert await bench.rows.change("g2", "dropping", from_states=("failed",))
    dropping = await bench.rows.find("g2")
    assert dropping is not None
    assert (dropping["state"], dropping["why"]) == ("dropping", None)


async def test_what_answers_or_is_about_to_stays_as_it_is(bench: Bench) -> None:
    await following(bench, "g2")
    assert not await bench.rows.change("g1", "paused", from_states=("following",))

    await switched(bench, "g2")
    assert not await bench.rows.change("g2", "paused", from_states=("following",))
    await bench.move()
    assert not await bench.rows.change("g2", "paused", from_states=("following",))
    assert await bench.rows.change("g1", "paused", from_states=("following",))
    await bench.settle()
    assert not await bench.rows.change("g2", "paused", from_states=("following",))


async def test_a_switch_says_all_that_was_asked_for(bench: Bench) -> None:
    await following(bench, "g2")

    asked = await bench.rows.switch("g2", previous="g1", kind="rollback", forced=True, gate=None, asked_by="acme")

    assert asked is not None
    assert {*asked} == SWITCH_FIELDS
    assert isinstance(asked["id"], str)
    assert [asked[name] for name in ("generation", "previous", "kind", "forced", "gate", "state", "why")] == [
        "g2",
        "g1",
        "rollback",
        True,
        None,
        "asked",
        None,
    ]
    assert (asked["moved_at"], asked["finished_at"]) == (None, None)
    assert [dict(each) for each in await bench.rows.switches(10)] == [dict(asked)]


async def test_one_switch_is_under_way_at_a_time(bench: Bench) -> None:
    await following(bench, "g2", "g3")
    assert await switched(bench, "g2") is not None
    assert await switched(bench, "g3") is None

    await bench.move()
    assert await switched(bench, "g3") is None
    serving = [each["name"] for each in await bench.rows.all() if each["serving"]]
    assert (await states(bench), serving) == ([("g2", "moved")], ["g2"])

    await bench.settle()
    assert await switched(bench, "g3", previous="g2") is not None
    assert await states(bench) == [("g3", "asked"), ("g2", "done")]
    assert [each["generation"] for each in await bench.rows.switches(1)] == ["g3"]
    [_, done] = await bench.rows.switches(2)
    assert done["moved_at"] <= done["finished_at"]


async def test_only_a_switch_that_waits_is_cancelled(bench: Bench) -> None:
    await following(bench, "g2")
    assert not await bench.rows.cancel_switch()

    await switched(bench, "g2")
    assert await bench.rows.cancel_switch()
    assert not await bench.rows.cancel_switch()
    [cancelled] = await bench.rows.switches(10)
    assert (cancelled["state"], cancelled["why"], cancelled["moved_at"]) == ("refused", "cancelled", None)
    assert cancelled["finished_at"] is not None

    await switched(bench, "g2")
    await bench.move()
    assert not await bench.rows.cancel_switch()
    assert await states(bench) == [("g2", "moved"), ("g2", "refused")]


async def test_a_generation_without_documents_covers_none(bench: Bench) -> None:
    await following(bench, "g2")

    assert await bench.rows.progress("g2") == {
        "n_documents": 0,
        "n_covered": 0,
        "n_failed": 0,
        "documents_per_s": 0.0,
        "n_workers": 0,
        "n_ready": 0,
        "shadow": None,
    }


async def test_a_share_is_given_to_what_holds_documents_and_does_not_answer(bench: Bench) -> None:
    assert await bench.rows.ask("g2", chunker="tokens", embedder="e", lexical="tantivy", vectors="pgvector")
    assert not await bench.rows.shadow("g2", 0.5)
    await bench.made("g2", 8)

    assert await bench.rows.shadow("g2", 0.5)
    found = await bench.rows.find("g2")
    assert found is not None
    assert found["shadow_share"] == 0.5
    assert not await bench.rows.shadow("g1", 0.5)
    assert await bench.rows.shadow("g1", 0.0)
    assert not await bench.rows.shadow("g9", 0.0)
