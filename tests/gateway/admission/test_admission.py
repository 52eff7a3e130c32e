"""Who is let in, who is not, and what those are told."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from gateway.admission import Admission, Who
from gateway.admission.capacity import Capacity
from gateway.admission.promises import GRACE_S, MemoryPromises
from gateway.admission.watch import Look, Own, OwnWatch
from gateway.problems import Problem
from tests.gateway.admission.overload import Clock


class Table:
    """`Watch` on rows that a test sets: open questions by tenant, and ids that are open no more."""

    def __init__(self) -> None:
        self.open_of: dict[str, int] = {}
        self.closed: list[str] = []

    async def look(self, own: Mapping[str, Own], now_s: float) -> Look:
        return Look(open_of=self.open_of, ended=[], closed=self.closed)

    def ended(self, own: Own, now_s: float) -> None:
        pass


def admission(clock: Clock | None = None, **changes: Any) -> Admission:
    clock = clock or Clock()
    values: dict[str, Any] = {
        "kind": "question",
        "tenant_max": 3,
        "capacity": Capacity(most=5),
        "watch": OwnWatch(),
        "promises": MemoryPromises(clock=clock),
        "clock": clock,
    }
    return Admission(**(values | changes))


def who(name: str, *, key: str | None = None, tenant: str = "acme") -> Who:
    return Who.of(tenant, name, key)


async def fill(door: Admission, tenant: str, n: int) -> None:
    for i in range(n):
        await door.admit(tenant, f"{tenant}{i}", who(f"{tenant}{i}", tenant=tenant))


async def refused(door: Admission, tenant: str, caller: Who) -> Problem:
    with pytest.raises(Problem) as caught:
        await door.admit(tenant, "another", caller)
    return caught.value


async def test_as_many_as_the_caps_say_are_let_in() -> None:
    door = admission()

    await fill(door, "acme", 3)
    await fill(door, "globex", 2)

    assert (await refused(door, "acme", who("more"))).kind == "too_many_questions"
    assert (await refused(door, "globex", who("more", tenant="globex"))).kind == "too_many_questions"


async def test_a_refusal_says_when_to_come_again_in_whole_seconds_and_why() -> None:
    door = admission()
    await fill(door, "acme", 3)

    problem = await refused(door, "acme", who("more"))

    assert problem.status_code == 429
    assert problem.headers == {"Retry-After": "1"}
    assert problem.body() == {
        "type": "urn:headrace:problem:too_many_questions",
        "title": "Too many requests",
        "status": 429,
        "detail": "your tenant has 3 questions without an end already; send this one again in 1 s; "
        "a place is kept for you then",
        "retry_after_ms": 1000,
        "promised": True,
    }


async def test_a_place_that_becomes_free_goes_to_who_was_promised_it_and_not_to_a_stranger() -> None:
    clock = Clock()
    door = admission(clock, tenant_max=5)
    await fill(door, "acme", 5)
    await refused(door, "acme", who("first", key="k1"))

    door.ended("acme0")
    await refused(door, "acme", who("stranger", key="k2"))
    clock.s += 1
    await refused(door, "acme", who("stranger", key="k3"))

    await door.admit("acme", "first", who("first", key="k1"))


async def test_who_comes_too_early_keeps_its_place_and_is_told_the_rest() -> None:
    clock = Clock()
    door = admission(clock)
    await fill(door, "acme", 3)
    for n in range(40):
        await refused(door, "acme", who("other", key=f"other{n}"))
    told = await refused(door, "acme", who("mine", key="mine"))

    clock.s += 2.5
    again = await refused(door, "acme", who("mine", key="mine"))

    assert told.more["retry_after_ms"] - again.more["retry_after_ms"] == 2_500


async def test_a_promise_that_cannot_be_kept_is_given_again_for_the_next_second() -> None:
    clock = Clock()
    door = admission(clock)
    await fill(door, "acme", 3)
    for n in range(40):
        await refused(door, "acme", who("other", key=f"other{n}"))
    told = await refused(door, "acme", who("mine", key="mine"))

    clock.s += told.more["retry_after_ms"] / 1000
    again = await refused(door, "acme", who("mine", key="mine"))

    assert told.more["retry_after_ms"] > 2_000
    assert again.more["retry_after_ms"] == 1_000


async def test_places_that_nobody_takes_up_are_given_to_others() -> None:
    clock = Clock()
    door = admission(clock, tenant_max=5)
    await fill(door, "acme", 5)
    await refused(door, "acme", who("gone", key="gone"))
    for n in range(5):
        door.ended(f"acme{n}")

    clock.s += 1 + GRACE_S + 1
    await door.look()

    await fill(door, "acme", 5)


async def test_callers_without_a_key_are_known_by_what_they_ask() -> None:
    clock = Clock()
    door = admission(clock, tenant_max=5)
    await fill(door, "acme", 5)
    await refused(door, "acme", who("the same"))
    await refused(door, "acme", who("the same"))
    clock.s += 1
    door.ended("acme0")
    door.ended("acme1")

    await door.admit("acme", "one", who("the same"))
    await door.admit("acme", "two", who("the same"))


async def test_tenants_do_not_take_each_others_places_up() -> None:
    assert who("the same", tenant="acme").name != who("the same", tenant="globex").name
    assert who("k").name != who("", key="k").name


async def test_questions_of_other_gateways_count() -> None:
    table = Table()
    door = admission(watch=table)
    await fill(door, "acme", 1)

    table.open_of = {"acme": 3, "globex": 1}  # one of them is this gateway's
    await door.look()

    assert (await refused(door, "acme", who("more"))).more["promised"]
    table.open_of = {"acme": 2, "globex": 1}
    await door.look()
    await door.admit("globex", "g", who("g", tenant="globex"))


async def test_an_end_that_this_gateway_did_not_see_is_found_in_the_table() -> None:
    table = Table()
    door = admission(watch=table)
    await fill(door, "acme", 3)
    table.open_of, table.closed = {"acme": 1}, ["acme0", "acme1"]

    await door.look()

    await door.admit("acme", "more", who("more"))


async def test_what_could_not_be_accepted_takes_no_place() -> None:
    door = admission()
    for n in range(10):
        with pytest.raises(ConnectionError):
            async with door.admitted("acme", str(n), who(str(n))):
                raise ConnectionError

    await fill(door, "acme", 3)


async def test_the_same_question_twice_at_the_same_time_takes_one_place() -> None:
    door = admission()
    await asyncio.gather(*(door.admit("acme", "same", who("same")) for _ in range(5)))

    await fill(door, "acme", 2)


async def test_a_small_tenant_is_let_in_though_others_have_filled_the_house() -> None:
    door = admission(tenant_max=128, capacity=Capacity(most=256, least=62))
    await fill(door, "acme", 64)
    await refused(door, "acme", who("more"))

    await fill(door, "globex", 16)
    await refused(door, "globex", who("more", tenant="globex"))
