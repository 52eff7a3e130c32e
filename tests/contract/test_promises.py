"""What every `Promises` does, however it keeps them; time passes for real only where a test says so."""

import os
import time
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from backbone.settings import ValkeySettings
from backbone.valkey import connected
from gateway.admission.promises import MAX_WAIT_S, MemoryPromises, Promises
from gateway.admission.shared_promises import SharedPromises


@pytest.fixture(params=["memory", pytest.param("valkey", marks=pytest.mark.integration)])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else request.getfixturevalue("valkey")


@pytest.fixture
async def promises(url: str | None) -> AsyncIterator[Promises]:
    if url is None:
        yield MemoryPromises(clock=time.monotonic)
        return
    async with connected(ValkeySettings.model_validate({"valkey_url": url})) as valkey:
        alone = MemoryPromises(clock=time.monotonic)
        yield SharedPromises(valkey=valkey, alone=alone, prefix=f"{{{os.urandom(4).hex()}}}")


async def test_who_was_promised_nothing_has_no_place(promises: Promises) -> None:
    assert await promises.redeem("acme", "ann", early=False) is None
    assert await promises.waiting() == 0


async def test_a_place_is_not_given_before_its_time_unless_there_is_room(promises: Promises) -> None:
    wait_s = await promises.book("acme", "ann", per_s=1, again=False)

    left_s = await promises.redeem("acme", "ann", early=False)

    assert wait_s == 1
    assert left_s is not None
    assert 0.5 < left_s <= 1
    assert await promises.waiting() == 1
    assert await promises.redeem("acme", "ann", early=True) == 0
    assert await promises.waiting() == 0
    assert await promises.redeem("acme", "ann", early=True) is None


async def test_places_of_a_line_are_as_far_apart_as_the_drain_allows(promises: Promises) -> None:
    waits_s = [await promises.book("acme", f"caller {n}", per_s=1, again=False) for n in range(20)]

    told = [wait_s for wait_s in waits_s if wait_s is not None]
    assert len(told) == 20
    # 0.255 places a second: 20 callers wait for 74.5 s at most.
    assert told == sorted(told)
    assert max(told) in (75, 76)
    assert {later - earlier for earlier, later in pairwise(told)} <= {3, 4}


async def test_at_many_places_a_second_nobody_waits_long(promises: Promises) -> None:
    waits_s = [await promises.book("acme", f"caller {n}", per_s=1_000, again=False) for n in range(20)]

    assert set(waits_s) == {1}


async def test_a_line_that_is_too_long_promises_nothing(promises: Promises) -> None:
    waits_s = [await promises.book("acme", f"caller {n}", per_s=0.05, again=False) for n in range(12)]

    n_promised = sum(wait_s is not None for wait_s in waits_s)
    assert 4 <= n_promised <= 5
    assert all(wait_s <= MAX_WAIT_S for wait_s in waits_s if wait_s is not None)
    assert waits_s[-1] is None
    assert await promises.waiting() == n_promised
    assert await promises.redeem("acme", "caller 11", early=True) is None


async def test_the_line_of_one_tenant_does_not_lengthen_that_of_another(promises: Promises) -> None:
    for n in range(50):
        await promises.book("acme", f"caller {n}", per_s=1, again=False)

    assert await promises.book("globex", "bob", per_s=1, again=False) == 1


async def test_callers_that_are_named_alike_share_their_places(promises: Promises) -> None:
    for _ in range(2):
        await promises.book("acme", "ann", per_s=1, again=False)

    assert await promises.waiting() == 2
    assert await promises.redeem("acme", "ann", early=True) == 0
    assert await promises.redeem("acme", "ann", early=True) == 0
    assert await promises.redeem("acme", "ann", early=True) is None


async def test_who_was_turned_away_in_time_comes_again_soon_however_long_the_line(promises: Promises) -> None:
    for n in range(50):
        await promises.book("acme", f"caller {n}", per_s=1, again=False)

    assert await promises.book("acme", "ann", per_s=1, again=True) == 1
    assert (await promises.book("acme", "bob", per_s=1, again=False) or 0) > 80


@pytest.mark.integration
async def test_gateways_share_their_promises_and_go_on_alone_without_valkey(valkey: str) -> None:
    prefix = f"{{{os.urandom(4).hex()}}}"
    settings = ValkeySettings.model_validate({"valkey_url": valkey})
    async with connected(settings) as one, connected(settings) as other:
        first = SharedPromises(valkey=one, alone=MemoryPromises(clock=time.monotonic), prefix=prefix)
        second = SharedPromises(valkey=other, alone=MemoryPromises(clock=time.monotonic), prefix=prefix)
        await first.book("acme", "ann", per_s=1, again=False)
        assert await second.redeem("acme", "ann", early=True) == 0
        # A place that was promised while Valkey was away is found when it is there again.
        await first.alone.book("acme", "bob", per_s=1, again=False)
        assert await first.waiting() == 1
        assert await first.redeem("acme", "bob", early=True) == 0

    nowhere = ValkeySettings.model_validate({"valkey_url": ""})
    async with connected(nowhere) as away:
        alone = SharedPromises(valkey=away, alone=MemoryPromises(clock=time.monotonic))
        assert await alone.book("acme", "ann", per_s=1, again=False) == 1
        assert await alone.redeem("acme", "ann", early=True) == 0
        assert await alone.waiting() == 0
