"""Three brokers under a stack: who leads what, and how to kill, freeze and restart them."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import msgspec
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headrace.local import stack as local
from headrace.local.table import Options
from tests.stack import Stack

NODES = (1, 2, 3)
PATIENCE_S = 60.0


def on_three_brokers(options: Options) -> Options:
    """The same stack, its Kafka made of three nodes: three replicas of everything, two of which must have a record."""
    return msgspec.structs.replace(options, brokers=len(NODES))


def part_of(node: int) -> str:
    """Name of the part that runs a node."""
    return "kafka" if node == 1 else f"kafka-{node}"


def leaders(stack: Stack, topics: Iterable[str]) -> Counter[int]:
    """How many partitions of these topics each node leads."""
    known = _admin(stack).list_topics(timeout=10).topics
    return Counter(partition.leader for topic in topics for partition in known[topic].partitions.values())


def coordinators(stack: Stack, groups: Iterable[str]) -> Counter[int]:
    """How many of these groups each node coordinates."""
    # kept, because a client that is gone answers nobody who waits
    admin = _admin(stack)
    described = admin.describe_consumer_groups(list(groups), request_timeout=10)
    return Counter(group.result(20).coordinator.id for group in described.values())


def replicas(stack: Stack, topic: str) -> list[tuple[int, int]]:
    """Number of replicas, and of those in sync, of each partition."""
    partitions = _admin(stack).list_topics(topic, timeout=10).topics[topic].partitions
    return [(len(partition.replicas), len(partition.isrs)) for partition in partitions.values()]


def await_in_sync(stack: Stack) -> None:
    """Wait until every partition has all its replicas in sync."""

    def in_sync() -> bool:
        topics = _admin(stack).list_topics(timeout=5).topics.values()
        return all(len(p.isrs) == len(p.replicas) for topic in topics for p in topic.partitions.values())

    until(in_sync, "replicas in sync")


def send(stack: Stack, node: int, number: signal.Signals) -> None:
    """Send a signal to a node. One that ends is started again by the supervisor."""
    pid = local.pid_of(stack.home, part_of(node))
    assert pid is not None, f"{part_of(node)} does not run"
    os.kill(pid, number)


@contextmanager
def frozen(stack: Stack, node: int) -> Iterator[None]:
    """Stop a node's process while the block runs: it neither answers nor closes its connections."""
    send(stack, node, signal.SIGSTOP)
    try:
        yield
    finally:
        send(stack, node, signal.SIGCONT)


def restart_one_after_the_other(stack: Stack) -> None:
    """Stop each node in good order; the next one once all replicas are in sync again."""
    for node in NODES:
        before = local.pid_of(stack.home, part_of(node))
        send(stack, node, signal.SIGTERM)
        until(lambda n=node, b=before: _is_another(stack, n, b), f"the restart of node {node}")  # type: ignore[misc]
        await_in_sync(stack)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until it holds; a broker that does not answer is asked again."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            if condition():
                return
        except KafkaException:
            pass
        assert time.monotonic() < deadline, f"waited {PATIENCE_S:.0f} s for {what}"
        time.sleep(0.2)


def _is_another(stack: Stack, node: int, pid: int | None) -> bool:
    parts = {part.name: part for part in local.status(stack.home).parts}
    part = parts[part_of(node)]
    return part.state == "ready" and part.pid != pid


def _admin(stack: Stack) -> AdminClient:
    return AdminClient({"bootstrap.servers": stack.kafka, "log_level": 0})
