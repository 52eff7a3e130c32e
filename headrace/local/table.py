"""The processes of our own that a stack runs, one row each, and what a test may change about a stack."""

from collections.abc import Mapping

import msgspec


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One process, started by this Python.

    Attributes:
        name: of the part, its log and its port.
        arguments: what follows `python` on the command line.
        port_variable: environment variable that tells it its port on 127.0.0.1, where it answers GET /ready with 200.
            Empty: it has no port, and is ready once it runs.
        env: further environment variables.
        grace_s: how long after SIGTERM it may finish its work before SIGKILL.
    """

    name: str
    arguments: tuple[str, ...]
    port_variable: str = "HEADRACE_METRICS_PORT"
    env: Mapping[str, str] = msgspec.field(default_factory=dict)
    grace_s: float = 35.0


def worker(name: str, *stages: str) -> Row:
    """Return the row of a worker that runs the given stages."""
    return Row(name=name, arguments=("-m", "streams", "--stages", ",".join(stages)))


PROCESSES = (
    Row(name="gateway", arguments=("-m", "gateway"), port_variable="HEADRACE_GATEWAY_PORT"),
    worker("worker-ingest", "intake", "chunk", "embed", "index", "lifecycle"),
    worker("worker-query", "retrieve", "generate"),
    worker("worker-score", "score", "evaluate", "operator"),
    Row(name="worker-replay", arguments=("-m", "streams.replay")),
)

OPENSEARCH_WORKER = worker("worker-opensearch", "index_opensearch")
"""Beside the others where there is OpenSearch; idle while the generation that answers is not searched there."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """How a crashed part comes back.

    Attributes:
        first_s: pause before the first restart; doubled for each crash that follows.
        max_s: the longest pause.
        healthy_s: a part that has run this long begins again with `first_s`.
        start_s: how long a part may take, crashes included, until it is ready for the first time.
        start_attempts: how often it is tried until it is ready for the first time.
    """

    first_s: float = 0.3
    max_s: float = 30.0
    healthy_s: float = 60.0
    start_s: float = 300.0
    start_attempts: int = 6


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a stack is made of.

    Attributes:
        stores: run Kafka, Postgres and Valkey, and set them up.
        processes: our own processes, started together once the stores are set up.
        env: environment variables of all our own processes.
        brokers: nodes of Kafka; with 3, every record is kept thrice, and two of them must have it.
        kafka: settings of every broker, which win over ours.
        topics: Kafka settings by topic name, as `{"rag.ingest.v1": {"retention.ms": "60000"}}`; for topics to be made.
        gateway_port: port of the gateway; 0 keeps the one chosen before, else takes 8080 or another free one.
        llm: run a small language model, and let it write the answers; wants `stores`.
        opensearch: run OpenSearch, and let our own processes know of it; a first generation that is made now is
            searched there by words. Wants `stores`.
        backoff: how crashed parts come back.
    """

    stores: bool = True
    processes: tuple[Row, ...] = PROCESSES
    env: Mapping[str, str] = msgspec.field(default_factory=dict)
    brokers: int = 1
    kafka: Mapping[str, str] = msgspec.field(default_factory=dict)
    topics: Mapping[str, Mapping[str, str]] = msgspec.field(default_factory=dict)
    gateway_port: int = 0
    llm: bool = False
    opensearch: bool = False
    backoff: Backoff = Backoff()
