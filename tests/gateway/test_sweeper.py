"""What the sweeper does in a round, and that it outlives Kafka and Postgres."""

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest

from backbone.telemetry import OLDEST_QUESTION_SECONDS, QUESTIONS_SWEPT
from gateway.problems import unavailable
from gateway.sweeper import BATCH, Sweeper
from schemas.events import QueryAsked, QueryFinished, Reply
from schemas.topics import ANSWERS, QUERIES, RESULTS
from tests.gateway.factories import ANSWER, Gateway, ask, gateway_in_memory

DONE = {"state": "finished", "attempt": 1, "outcome": "done", "terminal_seq": 3, "answer": msgspec.to_builtins(ANSWER)}


def swept(what: str) -> float:
    return float(QUESTIONS_SWEPT.labels(what)._value.get())


async def test_a_late_question_ends_and_its_end_is_published(gateway: Gateway) -> None:
    before, row = swept("expired"), await ask(gateway, left_ms=-1)

    await Sweeper(services=gateway.services).sweep()

    assert [reply.error for reply in gateway.sender.events(Reply, ANSWERS)] == ["deadline_exceeded"]
    assert [result.outcome for result in gateway.sender.events(QueryFinished, RESULTS)] == ["error"]
    assert gateway.questions.rows["acme", row.id].published is True
    assert swept("expired") - before == 1


async def test_a_lapsed_claim_is_produced_again_as_it_was_asked(gateway: Gateway) -> None:
    before, row = swept("taken_over"), await ask(gateway, state="claimed", attempt=1)
    gateway.swept.lapsed.add(row.id)

    await Sweeper(services=gateway.services).sweep()

    assert gateway.sender.events(QueryAsked, QUERIES) == [row.asked]
    assert gateway.questions.rows["acme", row.id].state == "pending"
    assert swept("taken_over") - before == 1


async def test_a_question_that_nobody_claims_is_produced_again(gateway: Gateway) -> None:
    before, row = swept("produced_again"), await ask(gateway)
    gateway.swept.unclaimed.add(row.id)

    await Sweeper(services=gateway.services).sweep()

    assert gateway.sender.events(QueryAsked, QUERIES) == [row.asked]
    assert swept("produced_again") - before == 1


async def test_an_end_that_was_stored_and_not_published_is_published(gateway: Gateway) -> None:
    before, row = swept("republished"), await ask(gateway, **DONE)
    gateway.swept.ended.add(row.id)

    for _ in range(2):
        await Sweeper(services=gateway.services).sweep()

    assert [(reply.type, reply.seq) for reply in gateway.sender.events(Reply, ANSWERS)] == [("answer", 2), ("done", 3)]
    assert swept("republished") - before == 1


async def test_more_than_a_batch_is_done_in_one_round(gateway: Gateway) -> None:
    for _ in range(BATCH + 1):
        await ask(gateway, left_ms=-1)

    await Sweeper(services=gateway.services).sweep()

    assert {row.state for row in gateway.questions.rows.values()} == {"finished"}


async def test_while_kafka_is_away_everything_stays_to_be_done(gateway: Gateway) -> None:
    late, lying = await ask(gateway, left_ms=-1), await ask(gateway, **DONE)
    gateway.swept.ended.add(lying.id)
    gateway.sender.away = True
    await Sweeper(services=gateway.services).sweep()
    states = [gateway.questions.rows["acme", row.id].published for row in (late, lying)]

    gateway.sender.away = False
    gateway.swept.ended.add(late.id)
    await Sweeper(services=gateway.services).sweep()

    assert states == [False, False]
    assert {row.published for row in gateway.questions.rows.values()} == {True}


async def test_old_keys_are_dropped_and_the_oldest_question_is_shown(gateway: Gateway) -> None:
    await ask(gateway, created_ms=0)

    await Sweeper(services=gateway.services).sweep()

    assert gateway.swept.dropped.is_set()
    assert OLDEST_QUESTION_SECONDS._value.get() > 1e9


async def test_the_sweeper_outlives_an_outage_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway_in_memory(tmp_path, sweep_interval_ms=100) as gateway:
        away = unavailable("Postgres", "refused")
        gateway.swept.failures = [away, away, RuntimeError("a bug")]
        with caplog.at_level(logging.WARNING, logger="gateway.sweeper"):
            sweeping = asyncio.create_task(Sweeper(services=gateway.services).run())
            async with asyncio.timeout(10):
                await gateway.swept.dropped.wait()
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)

    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
