"""Logs, metrics, the health port of workers, and the last word of a process that does not end."""

import asyncio
import logging
import os
import socket
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog
import uvicorn
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

# --- logs -----------------------------------------------------------------------------------------

_QUIET: Final = ("faust", "mode", "aiokafka", "kafka", "httpx", "httpcore", "uvicorn.access", "asyncio")


def setup_logging(service: str, *, level: int = logging.INFO) -> None:
    """Write one JSON object a line to stderr, for structlog and for the standard library alike. Idempotent.

    Libraries that talk much are held at WARNING. Texts of users belong to DEBUG at most.

    Args:
        service: field `service` of every line, as `gateway`.
        level: least level that is written.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        # Local variables hold texts of users and secrets.
        structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False)),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    structlog.contextvars.bind_contextvars(service=service)

    def named(_: Any, __: str, line: Any) -> Any:
        # Threads of libraries do not see the context of the main thread.
        return {"service": service, **line}

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                named,
                structlog.processors.JSONRenderer(default=repr),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True


# --- metrics --------------------------------------------------------------------------------------

_SHORT: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_RATIO: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_LONG: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)

RECORDS_PROCESSED: Final = Counter("headrace_records_processed_total", "Records done, outputs acknowledged.", ["stage"])
RECORDS_RETRIED: Final = Counter(
    "headrace_records_retried_total", "Attempts that failed for a passing reason.", ["stage"]
)
RECORDS_DEAD_LETTERED: Final = Counter(
    "headrace_records_dead_lettered_total", "Records given up, now in the dead-letter topic.", ["stage", "reason"]
)
DEAD_LETTERS_OPEN: Final = Gauge(
    "headrace_dead_letters_open",
    "Dead letters that nobody has decided about, by the stage that gave up and its reason.",
    ["stage", "reason"],
)
RECORDS_SUPERSEDED: Final = Counter(
    "headrace_records_superseded_total", "Records dropped because a newer version of their document exists.", ["stage"]
)
RECORDS_REPEATED: Final = Gauge(
    "headrace_records_repeated", "Records seen again since the last rebalance of the stage.", ["stage", "group"]
)
OFFSET_GAPS: Final = Gauge(
    "headrace_offset_gaps", "Offsets skipped by compaction or retention since the last rebalance.", ["stage", "group"]
)
PART_AWAY: Final = Gauge(
    "headrace_part_away", "1 while a part that stages of this process need does not answer: they wait.", ["part"]
)
PART_AWAY_SECONDS: Final = Counter("headrace_part_away_seconds_total", "Time that such a part was away.", ["part"])
HANDLER_SECONDS: Final = Histogram(
    "headrace_handler_seconds", "Time of a record from its first attempt to its end.", ["stage"], buckets=_SHORT
)
IN_FLIGHT: Final = Gauge("headrace_in_flight_records", "Records handed out and not finished.", ["stage", "group"])
IN_FLIGHT_BYTES: Final = Gauge(
    "headrace_in_flight_bytes", "Keys and values of the records in flight.", ["stage", "group"]
)
LAG: Final = Gauge(
    "headrace_lag_records",
    "Records between the committable position and the end.",
    ["stage", "group", "topic", "partition"],
)
OLDEST_UNFINISHED_SECONDS: Final = Gauge(
    "headrace_oldest_unfinished_seconds",
    "Age of the oldest record in flight; 0 when there is none.",
    ["stage", "group"],
)
CHUNKS_ENCODED: Final = Counter("headrace_chunks_encoded_total", "Chunks whose vector the encoder made.")
CHUNKS_SPARED: Final = Counter("headrace_chunks_spared_total", "Chunks whose vector the generation held already.")
QUESTION_VECTORS: Final = Counter(
    "headrace_question_vectors_total",
    "Vectors of questions, by where they came from: cache, encoder, or shared with a question at the same time.",
    ["source"],
)
SEARCHES_WITHOUT: Final = Counter(
    "headrace_searches_without_total",
    "Searches that were answered without a ranker, for its store was away.",
    ["ranker"],
)
ENCODER_SECONDS: Final = Counter("headrace_encoder_seconds_total", "Time that the encoder worked.", ["purpose"])
ENCODER_PACED_SECONDS: Final = Counter(
    "headrace_encoder_paced_seconds_total",
    "Time for which chunks waited for their turn, because a bound on chunks a second is set; of those that waited at "
    "the same time all count.",
)
REPLAY_RUNNING: Final = Gauge(
    "headrace_replay_running",
    "1 while the process that fills an index generation runs, 0 until it is started again; of a generation that is not "
    "to be followed there is no sample.",
    ["generation"],
)
TIME_TO_SEARCHABLE: Final = Histogram(
    "headrace_time_to_searchable_seconds",
    "From the submission of a document version to indexed; versions that are done again are left out.",
    buckets=_LONG,
)
QUESTIONS: Final = Counter("headrace_questions_total", "Questions that ended, by how.", ["outcome"])
TIME_TO_SOURCES: Final = Histogram(
    "headrace_time_to_sources_seconds", "From accepting a question to its sources.", buckets=_SHORT
)
TIME_TO_FIRST_TOKEN: Final = Histogram(
    "headrace_time_to_first_token_seconds", "From accepting a question to its first token.", buckets=_SHORT
)
TIME_TO_ANSWER: Final = Histogram(
    "headrace_time_to_answer_seconds", "From accepting a question to its whole answer.", buckets=_SHORT
)
QUESTIONS_SWEPT: Final = Counter(
    "headrace_questions_swept_total",
    "What the sweeper did: expired, taken_over, produced_again, republished.",
    ["what"],
)
OLDEST_QUESTION_SECONDS: Final = Gauge(
    "headrace_oldest_question_seconds", "Age of the oldest question without an end; 0 when there is none."
)
ANSWERS_WRITTEN: Final = Counter(
    "headrace_answers_written_total",
    "Answers by the link that wrote them, and whether they abstain.",
    ["link", "abstained"],
)
MODEL_FAILURES: Final = Counter("headrace_model_failures_total", "Links that failed a question.", ["link", "reason"])
MODEL_FIRST_TEXT_SECONDS: Final = Histogram(
    "headrace_model_first_text_seconds", "From asking a link to its first text.", ["link"], buckets=_SHORT
)
MODEL_TOKENS: Final = Counter(
    "headrace_model_tokens_total", "Tokens of models; kind is prompt or answer.", ["model", "kind"]
)
MODEL_BREAKER_OPEN: Final = Gauge(
    "headrace_model_breaker_open", "Breaker of an endpoint: 0 closed, 0.5 one question tries it, 1 open.", ["endpoint"]
)
INVENTED_MARKS: Final = Counter(
    "headrace_invented_marks_total", "Citation marks of models that stood for no passage; left out.", ["link"]
)
ADMISSIONS: Final = Counter(
    "headrace_admissions_total",
    "Questions and searches by what became of them at the door: admitted, promised (admitted as it was promised), or "
    "refused for what the tenant has open, or for what all have.",
    ["kind", "outcome"],
)
ADMISSION_CAP: Final = Gauge(
    "headrace_admission_cap", "How many may be open at once of all tenants together, from the measured drain.", ["kind"]
)
ADMISSION_DRAIN: Final = Gauge(
    "headrace_admission_drain_per_second", "How many end per second when as many are asked as can be.", ["kind"]
)
PROMISES: Final = Counter(
    "headrace_promises_total",
    "Places promised to callers who were refused, by their fate: kept, broken (refused again in its time), lapsed "
    "(nobody came); none: the line was too long to promise any.",
    ["fate"],
)
PROMISED_PLACES: Final = Gauge("headrace_promised_places", "Places promised and not yet taken up.", ["kind"])
CLAIMS: Final = Counter(
    "headrace_claims_total",
    "Claims of questions: first, again (by the same process, after a failure), taken_over (from a process that died or "
    "stopped) or refused (it has ended, or another process holds it).",
    ["how"],
)
TOKENS_TOLD: Final = Counter("headrace_tokens_told_total", "Token replies handed over for publishing.")
WRITINGS_STOPPED: Final = Counter(
    "headrace_writings_stopped_total", "Answers stopped before their end: cancelled, lost, or deadline.", ["why"]
)
CANCEL_SECONDS: Final = Histogram(
    "headrace_cancel_seconds",
    "From asking for the cancelling of a question to the stop of its writing.",
    buckets=_SHORT,
)
DRIFT_FOUND: Final = Counter(
    "headrace_drift_found_total", "Differences between log, tables and views that verifications found.", ["kind"]
)
REISSUES: Final = Counter(
    "headrace_reissues_total", "Documents that were done again: by repair, or because they were overdue.", ["why"]
)
OVERDUE_MENDED: Final = Counter(
    "headrace_overdue_mended_total", "Overdue versions that are served since they were done again."
)
COVERAGE: Final = Gauge(
    "headrace_coverage_documents",
    "Documents of a generation: covered (served in their latest version), failed, or missing; overdue are those of the "
    "missing that were done again and are still not served.",
    ["generation", "state"],
)
ANSWER_SCORES: Final = Histogram(
    "headrace_answer_score_ratio", "Scores of answers, from 0 to 1.", ["score"], buckets=_RATIO
)
TIME_TO_SCORES: Final = Histogram(
    "headrace_time_to_scores_seconds", "From the end of a question to its scores.", buckets=_SHORT
)
SHADOWS: Final = Counter(
    "headrace_shadows_total",
    "Answered questions of the share that a candidate is asked as well: shadowed, dropped (nobody asked them in time), "
    "or failed.",
    ["outcome"],
)
OPEN_STREAMS: Final = Gauge("headrace_open_streams", "SSE streams that are open.")
REPLIES_DROPPED: Final = Counter(
    "headrace_replies_dropped_total",
    "Replies not passed on: out of order (repeats, or of an attempt that was taken over), or unreadable.",
    ["why"],
)
HTTP_REQUESTS: Final = Counter("headrace_http_requests_total", "Requests by route and status.", ["route", "status"])
BODY_BYTES: Final = Gauge("headrace_http_body_bytes", "Request bodies of more than 64 KiB that are held in memory.")
HTTP_SECONDS: Final = Histogram(
    "headrace_http_seconds", "Time of a request up to the first byte of its response.", ["route"], buckets=_SHORT
)

METRICS: Final = tuple(each for each in list(globals().values()) if isinstance(each, Counter | Gauge | Histogram))
"""All that are defined above, in their order."""


def metrics_page() -> str:
    """Return the list of metrics as a Markdown page."""
    rows = []
    for metric in METRICS:
        [family] = metric.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in metric._labelnames) or "-"
        rows.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |")
    return (
        "# Metrics\n\nMade from `backbone/telemetry.py` by `make schemas`; edit that file, not this one."
        "\n\nEvery process serves them at `/metrics`; names end in their unit. Processes also report Prometheus' own"
        "\n`process_*` and `python_*`. The replay worker serves those of its processes, too: each has the label"
        '\n`generation` more. So `generation=""` chooses the live lane.\n'
        "\n| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n" + "\n".join(rows) + "\n"
    )


Others = Callable[[], Awaitable[Iterable[Metric]]]
"""Returns metrics that are not of this process."""


async def no_others() -> Iterable[Metric]:
    """Return nothing."""
    return ()


@dataclass(frozen=True)
class _Families(Collector):
    families: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.families


def metrics_response(registry: CollectorRegistry = REGISTRY, others: Iterable[Metric] = ()) -> Response:
    """Return all metrics of this process, and others beside them, as Prometheus reads them: each name once."""
    families = {each.name: each for each in registry.collect()}
    for other in others:
        if other.name in families:
            families[other.name].samples += other.samples
        else:
            families[other.name] = other
    page = generate_latest(_Families(families.values()))
    return Response(page, headers={"Content-Type": CONTENT_TYPE_LATEST})


# --- health port of workers -----------------------------------------------------------------------


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals belong to the worker.
        yield


@asynccontextmanager
async def serve_worker_endpoint(
    port: int,
    ready: Callable[[], dict[str, bool]],
    away: Callable[[], dict[str, str]] = dict,
    others: Others = no_others,
) -> AsyncIterator[int]:
    """Serve /metrics, /health and /ready on 127.0.0.1 while the block runs.

    Args:
        port: to listen on; 0 picks a free one.
        ready: each part by name and whether it works; all must, for /ready to say 200, else it says 503.
        away: what these wait for at the moment, by name, and how that shows; there must be none.
        others: metrics that are served beside those of this process.

    Yields:
        The port.

    Raises:
        OSError: the port is taken.
    """

    async def answer_metrics(_: Request) -> Response:
        return metrics_response(others=await others())

    async def answer_health(_: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def answer_ready(_: Request) -> Response:
        parts, waits_for = ready(), away()
        is_ready = all(parts.values()) and not waits_for
        return JSONResponse({"ready": is_ready, "parts": parts, "away": waits_for}, 200 if is_ready else 503)

    routes = [
        Route("/metrics", answer_metrics),
        Route("/health", answer_health),
        Route("/ready", answer_ready),
    ]
    listener = _listen(port)
    config = uvicorn.Config(
        Starlette(routes=routes), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="worker endpoint")
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await serving
        listener.close()


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise OSError(
            error.errno, f"port {port!r} on 127.0.0.1 cannot be used ({error.strerror}); choose another"
        ) from error
    return listener


# --- the end of a process -------------------------------------------------------------------------


def end_within(limit_s: float, code: int) -> threading.Timer:
    """See to it that this process ends in time: one that has not by then says what it still does, and ends.

    Args:
        limit_s: seconds from now.
        code: exit code of a process that is ended so.

    Returns:
        The clock; cancel it to call it off.
    """
    loop = asyncio.get_running_loop()

    def end() -> None:
        structlog.get_logger(__name__).critical("did_not_end", limit_s=limit_s, **_doings(loop))
        sys.stderr.flush()
        os._exit(code)

    timer = threading.Timer(limit_s, end)
    timer.daemon = True
    timer.start()
    return timer


def _doings(loop: asyncio.AbstractEventLoop) -> dict[str, list[str]]:
    """Return the stacks of all threads and of all tasks of a loop of another thread, without local variables."""
    threads = [
        f"{thread.name}\n{''.join(traceback.format_stack(frame))}"
        for thread in threading.enumerate()
        if (frame := sys._current_frames().get(thread.ident or 0)) is not None
    ]
    tasks = [f"{task.get_name()}\n{''.join(_awaits(task.get_coro()))}" for task in asyncio.all_tasks(loop)]
    return {"threads": threads, "tasks": tasks}


def _awaits(coroutine: Any) -> Iterator[str]:
    """Yield where a coroutine is, and where what it awaits is, and so on."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
        if frame is not None:
            yield f'  File "{frame.f_code.co_filename}", line {frame.f_lineno}, in {frame.f_code.co_qualname}\n'
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "ag_await", None)
