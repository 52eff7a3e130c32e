"""Questions and searches that are refused for a while, as callers see it over HTTP."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from schemas.events import QueryAsked
from tests.gateway.factories import EVIDENCE, gateway_in_memory, reply, whole_answer

QUESTION = {"query": "When does it open?"}


async def test_one_question_too_many_is_refused_and_let_in_at_the_stated_time(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, questions_per_tenant_max=1) as gateway:
        asked: list[QueryAsked] = []

        async def on_question(event: QueryAsked) -> None:
            asked.append(event)
            if len(asked) > 1:
                await gateway.replies.put(*whole_answer(event))

        gateway.sender.on_question = on_question
        first = asyncio.create_task(gateway.acme.post("/v1/query", json=QUESTION))
        async with asyncio.timeout(5):
            while not asked:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

        refused = await gateway.acme.post("/v1/query", json={"query": "And when does it close?"})
        other = await gateway.globex.post("/v1/query", json=QUESTION)
        await gateway.replies.put(*whole_answer(asked[0]))
        assert (await first).status_code == 200

        assert refused.status_code == 429
        assert refused.headers["Retry-After"] == "1"
        assert refused.headers["Content-Type"] == "application/problem+json"
        assert refused.json()["type"] == "urn:headrace:problem:too_many_questions"
        assert other.status_code == 200
        await asyncio.sleep(int(refused.headers["Retry-After"]))
        again = await gateway.acme.post("/v1/query", json={"query": "And when does it close?"})
        assert again.status_code == 200
        assert len(asked) == 3


async def test_a_repeat_of_what_was_accepted_is_never_refused(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, questions_per_tenant_max=1) as gateway:
        asked: list[QueryAsked] = []

        async def on_question(event: QueryAsked) -> None:
            asked.append(event)

        gateway.sender.on_question = on_question
        first = asyncio.create_task(gateway.acme.post("/v1/query", json=QUESTION, headers={"Idempotency-Key": "k"}))
        async with asyncio.timeout(5):
            while not asked:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert (await gateway.acme.post("/v1/query", json=QUESTION)).status_code == 429

        repeat = asyncio.create_task(gateway.acme.post("/v1/query", json=QUESTION, headers={"Idempotency-Key": "k"}))
        await asyncio.sleep(0)
        await gateway.replies.put(*whole_answer(asked[0]))

        assert ((await first).status_code, (await repeat).status_code) == (200, 200)
        assert (await first).json()["id"] == (await repeat).json()["id"]


async def test_a_question_that_kafka_does_not_take_leaves_its_place(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, questions_per_tenant_max=1) as gateway:
        gateway.sender.away = True
        statuses = [(await gateway.acme.post("/v1/query", json=QUESTION)).status_code for _ in range(3)]

        assert statuses == [503, 503, 503]


async def test_searches_have_a_door_of_their_own(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, questions_per_tenant_max=1) as gateway:
        asked: list[QueryAsked] = []

        async def on_question(event: QueryAsked) -> None:
            asked.append(event)

        gateway.sender.on_question = on_question
        first = asyncio.create_task(gateway.acme.post("/v1/search", json=QUESTION))
        async with asyncio.timeout(5):
            while not asked:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

        refused = await gateway.acme.post("/v1/search", json=QUESTION)
        await gateway.replies.put(reply(asked[0], "hits", 0, 0, evidence=[EVIDENCE]))

        assert (await first).status_code == 200
        assert refused.status_code == 429
        assert refused.json()["type"] == "urn:headrace:problem:too_many_searches"


async def test_the_state_of_valkey_is_told_and_makes_nothing_unready(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path) as gateway:
        gateway.broken["valkey"] = ConnectionError("refused")

        ready = await gateway.anyone.get("/ready")

        assert ready.status_code == 200
        assert ready.json()["ready"]
        assert ready.json()["parts"]["valkey"] == {"ok": False, "needed": False, "why": "ConnectionError: refused"}


async def test_large_bodies_are_refused_while_others_are_held_and_small_ones_are_not(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, body_max_bytes=100_000) as gateway:
        go = asyncio.Event()
        begun = asyncio.Semaphore(0)

        async def slow() -> AsyncIterator[bytes]:
            yield b" " * 90_000
            begun.release()
            await go.wait()
            yield b"{}"

        slow_ones = [asyncio.create_task(gateway.acme.post("/v1/ingest", content=slow())) for _ in range(4)]
        for _ in slow_ones:
            await begun.acquire()
        async with asyncio.timeout(5):
            while "headrace_http_body_bytes 360000.0" not in (await gateway.anyone.get("/metrics")).text:  # noqa: ASYNC110
                await asyncio.sleep(0.001)

        large = await gateway.acme.post("/v1/ingest", content=b" " * 80_000)
        small = await gateway.acme.post("/v1/ingest", json={"documents": [{"id": "a", "text": "small"}]})
        go.set()
        await asyncio.gather(*slow_ones)
        after = await gateway.acme.post("/v1/ingest", content=b" " * 80_000)

        assert (large.status_code, large.headers["Retry-After"]) == (429, "2")
        assert large.json()["type"] == "urn:headrace:problem:too_many_bytes"
        assert small.status_code == 202
        assert after.status_code == 422
        assert "headrace_http_body_bytes 0.0" in (await gateway.anyone.get("/metrics")).text
