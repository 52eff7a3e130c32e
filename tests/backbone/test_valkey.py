"""Valkey that is not there, goes away and comes back, and its scripts."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from backbone.settings import ValkeySettings
from backbone.valkey import ALIVE_S, FIRST_PAUSE_S, TIMEOUT_S, Valkey, ValkeyAway, connected
from headrace.local.ports import free_ports


@dataclass
class Clock:
    s: float = 100.0

    def __call__(self) -> float:
        return self.s


def settings(url: str) -> ValkeySettings:
    return ValkeySettings.model_validate({"valkey_url": url})


@asynccontextmanager
async def silent_server() -> AsyncIterator[tuple[str, list[int]]]:
    """A server that takes connections and says nothing: its URL, and one entry a connection."""
    seen: list[int] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(1)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", seen


async def test_without_a_url_every_call_fails_at_once_and_says_how_to_use_it() -> None:
    async with connected(settings("")) as valkey:
        assert not valkey.used
        with pytest.raises(ValkeyAway, match="HEADRACE_VALKEY_URL"):
            await valkey.get("key")


async def test_nobody_there_is_one_exception_and_then_left_alone_for_a_while() -> None:
    clock = Clock()
    valkey = Valkey(settings(f"redis://127.0.0.1:{free_ports(1)[0]}/0"), clock)

    with pytest.raises(ValkeyAway, match="ConnectionError"):
        await valkey.put("key", b"value", ttl_s=1)
    began = time.perf_counter()
    for _ in range(1000):
        with pytest.raises(ValkeyAway):
            await valkey.get("key")

    assert time.perf_counter() - began < 0.5
    await valkey.close()


async def test_a_silent_server_costs_one_timeout_per_pause_and_not_one_per_call() -> None:
    clock = Clock()
    async with silent_server() as (url, seen):
        valkey = Valkey(settings(url), clock)
        for _ in range(20):
            with pytest.raises(ValkeyAway):
                async with asyncio.timeout(2 * TIMEOUT_S):
                    await valkey.get("key")
        assert len(seen) == 1

        clock.s += FIRST_PAUSE_S
        with pytest.raises(ValkeyAway):
            await valkey.get("key")
        assert len(seen) == 2

        # The pause has doubled.
        clock.s += FIRST_PAUSE_S
        with pytest.raises(ValkeyAway):
            await valkey.get("key")
        assert len(seen) == 2
        await valkey.close()


@pytest.mark.integration
async def test_it_is_used_again_after_the_pause(valkey: str) -> None:
    clock = Clock()
    connection = Valkey(settings(valkey), clock)
    with pytest.raises(ValkeyAway):
        await connection.run("return redis.call('no such command')", [], [])
    with pytest.raises(ValkeyAway):
        await connection.get("key")

    clock.s += FIRST_PAUSE_S

    assert await connection.run("return {ARGV[1], KEYS[1]}", ["key"], [7]) == [b"7", b"key"]
    await connection.close()


@pytest.mark.integration
async def test_one_call_that_fails_among_others_that_do_not_is_no_death(valkey: str) -> None:
    clock = Clock()
    connection = Valkey(settings(valkey), clock)
    await connection.put("alive", b"yes", ttl_s=60)
    with pytest.raises(ValkeyAway):
        await connection.run("oops", [], [])

    assert await connection.get("alive") == b"yes"
    clock.s += ALIVE_S
    with pytest.raises(ValkeyAway):
        await connection.run("oops", [], [])
    with pytest.raises(ValkeyAway):
        await connection.get("alive")
    await connection.close()


@pytest.mark.integration
async def test_a_check_looks_even_during_the_pause(valkey: str) -> None:
    connection = Valkey(settings(valkey), Clock())
    with pytest.raises(ValkeyAway):
        await connection.run("oops", [], [])

    await connection.check()

    assert await connection.get("nothing") is None
    await connection.close()


@pytest.mark.integration
async def test_more_callers_than_connections_all_get_their_answer(valkey: str) -> None:
    async with connected(settings(valkey)) as connection:
        await connection.put("n", b"1", ttl_s=60)
        assert await asyncio.gather(*(connection.get("n") for _ in range(60))) == [b"1"] * 60


@pytest.mark.integration
async def test_a_stranger_without_the_password_is_refused(valkey: str) -> None:
    address = valkey.rpartition("@")[2]
    async with connected(settings(f"redis://{address}")) as stranger:
        with pytest.raises(ValkeyAway, match="Authentication"):
            await stranger.check()


@pytest.mark.integration
async def test_a_caller_that_is_cancelled_at_any_moment_of_a_call_ends(valkey: str) -> None:
    async with connected(settings(valkey)) as connection:
        await connection.put("n", b"1", ttl_s=60)
        n_cancelled = 0
        for n_steps in range(30):
            call = asyncio.create_task(connection.get("n"))
            for _ in range(n_steps):
                await asyncio.sleep(0)
            if not call.cancel():
                continue
            n_cancelled += 1
            with pytest.raises(asyncio.CancelledError):
                await call
        assert n_cancelled > 5
