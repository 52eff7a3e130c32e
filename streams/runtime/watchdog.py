"""Watchdogs: a worker that can make no progress says why and ends, so that it is started again."""

import asyncio
import os
import sys
import threading
import time
import traceback
from typing import Self

import structlog
from confluent_kafka import KafkaException

from backbone.kafka import Admin
from streams.runtime.app import StageApp
from streams.runtime.observer import Observer, Sample
from streams.runtime.outages import Outages

PATIENCE_S = 60.0
LOOP_LAG_MAX_S = 5.0
EXIT_STUCK = 71

_SAMPLE_S = 1.0
_log = structlog.get_logger(__name__)


class Stuck(Exception):
    """A stage makes no progress; the message says how that shows."""


async def watch(app: StageApp, admin: Admin, observer: Observer, outages: Outages) -> None:
    """Sample a stage once a second for ever. While a part that it needs is away, it need not get on.

    Raises:
        Stuck: it makes no progress, though all that it needs is there.
    """
    unassigned_since: float | None = None
    while True:
        await asyncio.sleep(_SAMPLE_S)
        sample = app.sample()
        observer.sampled(app.stage.name, sample)
        if outages.first(app.stage.all_needs) is not None:
            unassigned_since = None
            app.consumer.forgive()
            continue
        try:
            unassigned_since = await _check(app, admin, sample, unassigned_since)
        except (Stuck, KafkaException) as error:
            if await outages.ask_all(app.stage.all_needs) is None and isinstance(error, Stuck):
                raise


async def _check(app: StageApp, admin: Admin, sample: Sample, unassigned_since: float | None) -> float | None:
    """Check one sample; return since when the stage has no partitions, None where it has some."""
    check_handlers(app.stage.name, app.slots.longest_run_s(), app.stage.deadline_s)
    if app.faust.rebalancing:
        return unassigned_since
    consumer = app.consumer
    if consumer.assignment():
        check_fetching(app.stage.name, consumer.unfetched(), sample.in_flight, time.monotonic() - consumer.fetched_at)
        check_commits(app.stage.name, consumer.commits_stuck_s())
        return None
    unassigned_since = unassigned_since or time.monotonic()
    if time.monotonic() - unassigned_since > PATIENCE_S:
        group = app.stage.group
        unclaimed = [await admin.unclaimed_partitions(group, topic) for topic in app.stage.topic_names]
        check_assignment(app.stage.name, sum(unclaimed))
        return None
    return unassigned_since


def check_handlers(stage: str, longest_run_s: float, deadline_s: float) -> None:
    """Raise Stuck when an attempt has outlived its deadline twice: it does not let itself be cancelled."""
    if longest_run_s > 2 * deadline_s:
        raise Stuck(f"{stage}: a handler runs for {longest_run_s:.0f} s; its deadline is {deadline_s:.0f} s")


def check_fetching(stage: str, n_unfetched: int, in_flight: int, idle_s: float) -> None:
    """Raise Stuck when records wait in Kafka, none is being worked on, and none came for a minute."""
    if n_unfetched and not in_flight and idle_s > PATIENCE_S:
        raise Stuck(f"{stage}: {n_unfetched} offsets wait in Kafka, but nothing was fetched for {idle_s:.0f} s")


def check_commits(stage: str, stuck_s: float) -> None:
    """Raise Stuck when finished work has not been committed for a minute."""
    if stuck_s > PATIENCE_S:
        raise Stuck(f"{stage}: finished work has not been committed for {stuck_s:.0f} s")


def check_assignment(stage: str, n_unclaimed: int) -> None:
    """Raise Stuck when this member, long without partitions, leaves some unclaimed."""
    if n_unclaimed:
        raise Stuck(f"{stage}: no partitions for {PATIENCE_S:.0f} s, though {n_unclaimed} are free")


class LoopWatch:
    """Ends the process when its event loop does not turn for 5 s; runs in a thread of its own.

    Use it as a context manager inside the loop.
    """

    def __init__(self, limit_s: float = LOOP_LAG_MAX_S) -> None:
        self._limit_s = limit_s
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._watched = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="loop-watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()

    def _watch(self) -> None:
        while not self._closing.wait(_SAMPLE_S):
            turned = threading.Event()
            self._loop.call_soon_threadsafe(turned.set)
            if not turned.wait(self._limit_s) and not self._closing.is_set():
                frame = sys._current_frames().get(self._watched)
                stack = "".join(traceback.format_stack(frame)) if frame else ""
                _log.critical("event_loop_stands_still", limit_s=self._limit_s, stack=stack)
                os._exit(EXIT_STUCK)
