"""A worker process: several stages, each a consumer group of its own, started together and stopped in bounded time.

How to use it:

    async def main() -> int:
        async with Publisher(settings) as publisher:
            return await run_worker(stages, kafka=settings, publisher=publisher, blobs=blobs)

    run_process(main)

`run_worker` ends with 0 after SIGTERM or SIGINT, and a second one ends the process at once with EXIT_FORCED; with
EXIT_FATAL when a handler raised Fatal or a dead letter could not be written; with EXIT_STUCK when a watchdog bit; with
EXIT_CRASHED when a Faust App crashed. Whoever started the process
starts it again. Nothing that was not finished is acknowledged in any of these cases.
"""

import asyncio
import importlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import faust
import structlog
import uvloop

from backbone.kafka import Admin
from backbone.settings import KafkaSettings
from backbone.telemetry import end_within
from schemas.codec import Blobs
from streams.errors import Fatal
from streams.runtime.app import StageApp, Timing
from streams.runtime.consumer import SafeConsumer
from streams.runtime.gate import Gate
from streams.runtime.holders import Holders
from streams.runtime.observer import Observer, Silent
from streams.runtime.outages import Outages
from streams.runtime.runner import Runner, Sender
from streams.runtime.stage import Stage
from streams.runtime.watchdog import EXIT_STUCK, LoopWatch, Stuck, watch

EXIT_FATAL = 70
EXIT_CRASHED = 72
EXIT_FORCED = 73
EXIT_LATE = 74

FAUST_VERSION = "0.15.3"
STOP_MARGIN_S = 12.0
"""From SIGTERM to the end it takes at most `Timing.drain_s` and this; leave a process more before SIGKILL."""

_CLOSE_S = 4.0
"""Of the margin, what is left for closing connections."""
_EXIT_S = 0.5
"""And of that, for being gone."""
_SWITCH_INTERVAL_S = 0.0005
_log = structlog.get_logger(__name__)


class Crashed(Exception):
    """A Faust App ended by itself."""


async def run_worker(
    stages: Sequence[Stage],
    *,
    kafka: KafkaSettings,
    publisher: Sender,
    blobs: Blobs,
    observer: Observer | None = None,
    before_join: Callable[[Stage], Awaitable[None]] | None = None,
    on_ready: Callable[[], None] | None = None,
    on_stop: Callable[[], None] | None = None,
    timing: Timing | None = None,
    consumer: type[SafeConsumer] = SafeConsumer,
    outages: Outages | None = None,
    holders: Holders | None = None,
) -> int:
    """Run stages until the process is told to stop, or cannot go on.

    Args:
        stages: what to run; every group at most once. Without any it waits until it is told to stop.
        kafka: how to reach Kafka; the topics exist already.
        publisher: sends what handlers yield.
        blobs: store of values over 1 MiB.
        observer: hears of every record; None: nobody does.
        before_join: awaited for each stage before it joins its group (a view that must be built first); the stages do
            not wait for each other.
        on_ready: called once when every stage has been assigned its partitions (it may be none).
        on_stop: called once when it begins to stop: no more records are begun then.
        timing: of the groups and of stopping; None: the defaults.
        consumer: acknowledges and commits; fault tests put a worse one in to see that they notice.
        outages: knows which parts are away; None: none ever is.
        holders: notes who holds partitions; None: a record that kills its worker is handled again and again.

    Returns:
        Exit code for the process, as the module says.
    """
    _check_faust()
    observer = observer or Silent()
    timing = timing or Timing()
    admin = Admin(kafka)
    outages = outages or Outages()
    gate = Gate()
    runners = [
        Runner(stage=stage, sender=publisher, blobs=blobs, observer=observer, outages=outages, gate=gate)
        for stage in stages
    ]
    apps = [StageApp(runner, kafka, admin, timing, consumer, holders) for runner in runners]
    with LoopWatch(), _told_to_stop(timing.drain_s + STOP_MARGIN_S - _EXIT_S) as told:
        work = asyncio.create_task(_run(apps, admin, observer, outages, before_join, on_ready))
        try:
            await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
            code = _code_of(work.exception()) if work.done() else 0
            if code == EXIT_STUCK:
                for app in apps:
                    app.keep_notes()
            return code
        finally:
            if on_stop is not None:
                on_stop()
            work.cancel()
            outages.close()
            await _stop(apps, timing.drain_s + STOP_MARGIN_S - _CLOSE_S)


def run_process(main: Callable[[], Coroutine[Any, Any, int]]) -> NoReturn:
    """Run a worker's main function on uvloop and end the process with the code that it returns."""
    # each App runs a thread of its own; with CPython's 5 ms they wait for each other at every record
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    try:
        code = uvloop.run(main())
    except BaseException as error:
        _log.exception("worker_failed")
        code = 1 if isinstance(error, Exception) else EXIT_CRASHED
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # threads that a crashed App leaves behind must not keep the process
    os._exit(code)


async def _run(
    apps: Sequence[StageApp],
    admin: Admin,
    observer: Observer,
    outages: Outages,
    before_join: Callable[[Stage], Awaitable[None]] | None,
    on_ready: Callable[[], None] | None,
) -> None:
    async def live(app: StageApp) -> None:
        if before_join is not None:
            await before_join(app.stage)
        await app.faust.start()
        await app.assigned.wait()

    async with asyncio.TaskGroup() as group:
        for app in apps:
            group.create_task(_fail_with(app))
        async with asyncio.TaskGroup() as starting:
            for app in apps:
                starting.create_task(live(app))
        _log.info("worker_ready", stages=[app.stage.name for app in apps])
        if on_ready is not None:
            on_ready()
        for app in apps:
            group.create_task(watch(app, admin, observer, outages))
        if not apps:
            await asyncio.Event().wait()


async def _fail_with(app: StageApp) -> None:
    """Raise as soon as the App can do no more."""
    ended = asyncio.ensure_future(app.faust.wait_until_stopped())
    await asyncio.wait({app.failed, ended}, return_when=asyncio.FIRST_COMPLETED)
    if app.failed.done():
        await app.failed
    raise Crashed(f"the Faust App of stage {app.stage.name} ended: {app.faust.crash_reason!r}")


@contextmanager
def _told_to_stop(limit_s: float) -> "Iterator[asyncio.Future[None]]":
    loop = asyncio.get_running_loop()
    told: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if told.done():
            _log.warning("stopped_at_once")
            os._exit(EXIT_FORCED)
        told.set_result(None)
        # not only the stages: what is closed after them must not hold it up either
        end_within(limit_s, EXIT_LATE)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
    try:
        yield told
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _stop(apps: Sequence[StageApp], limit_s: float) -> None:
    """Stop all Apps at once: drain, commit, leave the groups; give up after a while."""
    stopping = [asyncio.create_task(app.stop()) for app in apps if app.faust.started]
    if not stopping:
        return
    _, late = await asyncio.wait(stopping, timeout=limit_s)
    if late:
        _log.error("stop_took_too_long", limit_s=limit_s)


def _code_of(error: BaseException | None) -> int:
    _log.critical("worker_stops", error=error)
    errors = list(_leaves(error))
    if any(isinstance(leaf, Fatal) for leaf in errors):
        return EXIT_FATAL
    return EXIT_STUCK if any(isinstance(leaf, Stuck) for leaf in errors) else EXIT_CRASHED


def _leaves(error: BaseException | None) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for member in error.exceptions for leaf in _leaves(member)]
    return [] if error is None else [error]


def _check_faust() -> None:
    """Refuse a Faust that the ledger was not tested with."""
    if faust.__version__ != FAUST_VERSION:
        raise Fatal(f"Faust is {faust.__version__}, the ledger needs {FAUST_VERSION}; install the locked requirements")
    try:
        # the pure-Python twin acknowledges what it must not
        importlib.import_module("faust._cython.streams")
    except ImportError as error:
        raise Fatal("Faust came without its compiled part; install its wheel, not its source") from error
