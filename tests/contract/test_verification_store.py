"""What every `VerificationStore` does."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import uuid_utils

from streams.adapters.postgres_drift import PostgresVerifications
from streams.errors import Transient
from streams.operator.drift import Difference
from streams.operator.verify import Verification, VerificationStore
from tests.contract.factories import key_of
from tests.doubles.verifications import MemoryVerifications

FIRST, SECOND = (str(uuid_utils.uuid7()) for _ in range(2))
MISSING = Difference(kind="chunks_missing", key=key_of("ü"), version=3, detail="1 of 2 chunks")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A store. `lapse`: the worker of one is silent for too long; `shown`: state, why, progress, findings."""

    store: VerificationStore
    ask: Callable[[str, bool], Awaitable[None]]
    lapse: Callable[[str], Awaitable[None]]
    shown: Callable[[str], Awaitable[tuple[str, str | None, dict[str, Any], list[tuple[Difference, bool]]]]]

    async def taken(self) -> Verification | None:
        async with self.store.next() as asked:
            return asked


def in_memory() -> Bench:
    store = MemoryVerifications()

    async def ask(id: str, repair: bool) -> None:
        store.asked.append(Verification(id=id, repair=repair))

    async def lapse(id: str) -> None:
        store.held.pop(id, None)

    async def shown(id: str) -> tuple[str, str | None, dict[str, Any], list[tuple[Difference, bool]]]:
        why = store.ended.get(id)
        state = ("finished" if why is None else "failed") if id in store.ended else "running"
        found = [(each, id in store.reissued) for each in store.findings.get(id, [])]
        return state, why, store.told.get(id, {}), found

    return Bench(store=store, ask=ask, lapse=lapse, shown=shown)


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "double":
        return in_memory()
    pool = request.getfixturevalue("pool")

    async def ask(id: str, repair: bool) -> None:
        await pool.execute("INSERT INTO verifications (id, repair) VALUES ($1, $2)", id, repair)

    async def lapse(id: str) -> None:
        await pool.execute("UPDATE verifications SET lease_until = now() - interval '1 second' WHERE id = $1", id)

    async def shown(id: str) -> tuple[str, str | None, dict[str, Any], list[tuple[Difference, bool]]]:
        row = await pool.fetchrow("SELECT state, why, progress FROM verifications WHERE id = $1", id)
        found = await pool.fetch("SELECT * FROM findings WHERE verification = $1 AND seen_by = 'operator'", id)
        findings = [
            (
                Difference(
                    kind=each["kind"],
                    key=key_of(each["document"], tenant=each["tenant"]),
                    version=each["version"],
                    detail=each["detail"],
                ),
                each["reissued_at"] is not None,
            )
            for each in found
        ]
        return row["state"], row["why"], row["progress"], findings

    return Bench(store=PostgresVerifications(pool=pool), ask=ask, lapse=lapse, shown=shown)


async def test_what_waits_longest_is_taken_first_and_by_one_alone(bench: Bench) -> None:
    assert await bench.taken() is None
    await bench.ask(FIRST, True)
    await bench.ask(SECOND, False)

    assert await bench.taken() == Verification(id=FIRST, repair=True)
    assert await bench.taken() == Verification(id=SECOND, repair=False)
    assert await bench.taken() is None


async def test_what_a_dead_worker_left_is_taken_over(bench: Bench) -> None:
    await bench.ask(FIRST, False)
    await bench.taken()
    await bench.lapse(FIRST)

    assert await bench.taken() == Verification(id=FIRST, repair=False)


@pytest.mark.parametrize("error", [Transient("Kafka is away"), asyncio.CancelledError()], ids=["transient", "stopped"])
async def test_what_is_broken_off_may_be_taken_at_once(bench: Bench, error: BaseException) -> None:
    await bench.ask(FIRST, True)

    with pytest.raises(type(error)):
        async with bench.store.next():
            raise error

    assert await bench.taken() == Verification(id=FIRST, repair=True)
    assert await bench.taken() is None


async def test_who_lost_it_to_another_worker_does_not_give_it_back(bench: Bench) -> None:
    await bench.ask(FIRST, True)

    with pytest.raises(Transient):
        async with bench.store.next():
            await bench.lapse(FIRST)
            assert await bench.taken() == Verification(id=FIRST, repair=True)
            raise Transient("Kafka is away")

    assert await bench.taken() is None


async def test_what_has_ended_is_not_taken_again(bench: Bench) -> None:
    for id, why in ((FIRST, None), (SECOND, "bug")):
        await bench.ask(id, False)
        await bench.taken()
        await bench.store.progress(id, {"n_logged": 2, "n_documents": 1})
        await bench.store.finish(id, {"n_documents": 3}, why=why)
        await bench.lapse(id)

    assert await bench.taken() is None
    assert await bench.shown(FIRST) == ("finished", None, {"n_logged": 2, "n_documents": 3}, [])
    assert await bench.shown(SECOND) == ("failed", "bug", {"n_logged": 2, "n_documents": 3}, [])


async def test_findings_are_kept_once_and_say_whether_they_are_done_again(bench: Bench) -> None:
    await bench.ask(FIRST, True)
    await bench.taken()

    await bench.store.found(FIRST, "g1", [MISSING], seen_by="operator", reissued=False)
    assert (await bench.shown(FIRST))[3] == [(MISSING, False)]
    await bench.store.found(FIRST, "g1", [MISSING], seen_by="operator", reissued=True)
    assert (await bench.shown(FIRST))[3] == [(MISSING, True)]
    await bench.store.found(FIRST, "g1", [MISSING], seen_by="operator", reissued=False)
    assert (await bench.shown(FIRST))[3] == [(MISSING, True)]
