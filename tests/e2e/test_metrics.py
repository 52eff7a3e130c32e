"""What people on call look at moves while records wait, fail, are given up, overtaken and published again."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from confluent_kafka import Producer

from schemas.codec import REISSUE_HEADER
from schemas.topics import INGEST
from tests.e2e.api import Api
from tests.stack import Stack

INTAKE = {"stage": "intake", "group": "rag.intake"}


def until(condition: Callable[[], bool], shown: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, shown()
        time.sleep(0.1)


@dataclass(frozen=True, kw_only=True)
class Count:
    """How far a counter has moved since this was made."""

    stack: Stack
    part: str
    name: str
    labels: dict[str, str]
    before: float

    def moved(self) -> float:
        return self.stack.metric(self.part, self.name, **self.labels) - self.before

    def await_moved(self) -> None:
        until(lambda: self.moved() > 0, lambda: (self.name, self.labels, self.moved()))


@pytest.fixture
def count(stack: Stack) -> Callable[..., Count]:
    def begin(part: str, name: str, **labels: str) -> Count:
        return Count(stack=stack, part=part, name=name, labels=labels, before=stack.metric(part, name, **labels))

    return begin


@contextmanager
def locked(stack: Stack, tenant: str, document: str) -> Iterator[Callable[[], bool]]:
    """Hold the row of a document while the block runs; what is given interrupts who waits for it, once there is one."""
    loop = asyncio.new_event_loop()
    connection = loop.run_until_complete(asyncpg.connect(stack.environment["HEADRACE_POSTGRES_DSN"]))

    def run(query: str, *arguments: Any) -> list[asyncpg.Record]:
        return list(loop.run_until_complete(connection.fetch(query, *arguments)))

    def interrupt() -> bool:
        waiting = (
            "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid))"
        )
        return bool(run(waiting))

    try:
        run("BEGIN")
        run("SELECT 1 FROM documents WHERE tenant = $1 AND document = $2 FOR UPDATE", tenant, document)
        yield interrupt
    finally:
        loop.run_until_complete(connection.close())
        loop.close()


def test_a_document_that_waits_shows_as_lag_and_age_and_what_it_failed_of_as_a_retry(
    stack: Stack, acme: Api, count: Callable[..., Count]
) -> None:
    acme.put({"id": "metrics/held", "text": "The counted snipe drums over the marsh."})
    retried = count("worker-ingest", "headrace_records_retried_total", stage="intake")
    fresh = count("worker-ingest", "headrace_time_to_searchable_seconds_count")

    def lag() -> dict[int, float]:
        found = stack.metrics("worker-ingest", "headrace_lag_records", topic=INGEST.name, **INTAKE)
        return {int(labels["partition"]): value for labels, value in found}

    def oldest_s() -> float:
        return stack.metric("worker-ingest", "headrace_oldest_unfinished_seconds", **INTAKE)

    with locked(stack, "acme", "metrics/held") as interrupt:
        (acknowledged,) = acme.ingest({"id": "metrics/held", "text": "The counted snipe sleeps."})
        until(lambda: sum(lag().values()) == 1, lag)
        until(lambda: oldest_s() > 1, oldest_s)
        until(interrupt, lambda: "nobody waits for the row")
        retried.await_moved()
    acme.settle(acknowledged)

    fresh.await_moved()
    until(lambda: lag() == dict.fromkeys(range(INGEST.partitions), 0.0), lag)
    until(lambda: oldest_s() == 0, oldest_s)


def test_a_record_that_is_given_up_shows_as_a_dead_letter_and_an_older_version_as_superseded(
    stack: Stack, acme: Api, count: Callable[..., Count]
) -> None:
    lettered = count("worker-ingest", "headrace_records_dead_lettered_total", stage="intake")
    superseded = count("worker-ingest", "headrace_records_superseded_total", stage="intake")
    acme.put({"id": "metrics/twice", "text": "The first snipe."})
    acme.put({"id": "metrics/twice", "text": "The second snipe."})
    producer = Producer({"bootstrap.servers": stack.kafka})
    producer.produce(INGEST.name, key="acme/metrics/bad", value=b"{no JSON")
    producer.produce(INGEST.name, key="acme/metrics/twice", value=b"{}", headers={REISSUE_HEADER: b"1"})
    assert producer.flush(20) == 0

    lettered.await_moved()
    superseded.await_moved()
    until(lambda: stack.metric("worker-score", "headrace_dead_letters_open", stage="intake") > 0, lambda: "none open")


def test_an_end_that_was_stored_and_not_published_shows_as_republished(
    stack: Stack, acme: Api, count: Callable[..., Count]
) -> None:
    republished = count("gateway", "headrace_questions_swept_total", what="republished")
    answer = acme.query("What drums over the marsh?")

    # as a worker leaves it that dies between the two
    stack.sql("UPDATE queries SET published_at = NULL WHERE id = $1", answer["id"])

    republished.await_moved()
    until(lambda: is_published(stack, answer["id"]), lambda: answer["id"])


def is_published(stack: Stack, query: str) -> bool:
    [row] = stack.sql("SELECT published_at FROM queries WHERE id = $1", query)
    return row["published_at"] is not None
