"""Every private name of Faust that the ledger touches, pinned: an upgrade that changes one fails here.

When it does: read what changed in Faust, run the faults, and only then write the new hash down.
"""

import hashlib
import importlib
import inspect
from importlib.metadata import version
from typing import Any

import faust
import pytest
from faust.app.base import App, BootStrategy
from faust.tables.recovery import Recovery
from faust.transport import consumer as faust_consumer
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import ConsumerMessage, Message

from streams.runtime.consumer import SafeConsumer

VERSIONS = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0", "mode-streaming": "0.7.1"}

OVERRIDDEN = {
    "ack": "5fcf41cf45153475",
    "_filter_tps_with_pending_acks": "f6f9239774234e7e",
    "_new_offset": "1d2c7ea89a7ad4f1",
    "_should_commit": "5ce941793947ad42",
    "_commit_offsets": "1a69799041188441",
    "wait_empty": "e4662fe24f094819",
    "on_partitions_revoked": "d04b7ae72c6fc206",
    "on_partitions_assigned": "29ce96596f05a18c",
    "perform_seek": "0e8c130ff4b0afd8",
    "resume_flow": "db59630f25b5819b",
    "getmany": "4b168d84882a70d6",
    "_wait_next_records": "6218e1969a636b3f",
    "verify_event_path": "a17e8f0610e1abcb",
}
"""What we replace in Faust's consumer, and the hash of Faust's own."""

RELIED_ON: dict[str, tuple[Any, str]] = {
    "Consumer.__init__": (faust_consumer.Consumer.__init__, "302410d59e6972d1"),
    "Consumer._drain_messages": (faust_consumer.Consumer._drain_messages, "44a2500309e83c63"),
    "Consumer._commit_tps": (faust_consumer.Consumer._commit_tps, "a20e230b05ae8b15"),
    "Consumer._filter_committable_offsets": (faust_consumer.Consumer._filter_committable_offsets, "dc5e9baf5d994485"),
    "Consumer.commit": (faust_consumer.Consumer.commit, "a354437baaa08bf8"),
    "Consumer.on_stop": (faust_consumer.Consumer.on_stop, "45b1d2210ce2b526"),
    "Consumer.pause_partitions": (faust_consumer.Consumer.pause_partitions, "27a1c94bdacd54de"),
    "Consumer._to_message": (driver.Consumer._to_message, "7c24f6511b2fcef7"),
    "ConsumerThread._commit": (driver.AIOKafkaConsumerThread._commit, "932852ce7a23f658"),
    "ConsumerThread._create_worker_consumer": (
        driver.AIOKafkaConsumerThread._create_worker_consumer,
        "c2701bfc3e6f6cad",
    ),
    "ConsumerThread.seek_to_committed": (driver.AIOKafkaConsumerThread.seek_to_committed, "775ab0adc4b052ab"),
    "ConsumerRebalanceListener": (driver.ConsumerRebalanceListener, "f3d04f29dfb3f716"),
    "Recovery._resume_streams": (Recovery._resume_streams, "d986a6710c1aca98"),
    "App._on_partitions_revoked": (App._on_partitions_revoked, "d5c895bbe57dc73a"),
    "App._on_partitions_assigned": (App._on_partitions_assigned, "de932b7927db85b3"),
    "App._stop_consumer": (App._stop_consumer, "55854a5de12c3f52"),
    "App._consumer_wait_empty": (App._consumer_wait_empty, "6bc313c48c064b16"),
    "BootStrategy.kafka_producer": (BootStrategy.kafka_producer, "54a789df64f66255"),
    "Message.ack": (Message.ack, "4751b72c4ed84153"),
    "ConsumerMessage.on_final_ack": (ConsumerMessage.on_final_ack, "45d670b6a8ac4bd0"),
}
"""What we do not replace, but whose working the ledger needs."""


def digest(thing: Any) -> str:
    """Hash the source of a function, through Faust's decorators."""
    return hashlib.sha256(inspect.getsource(inspect.unwrap(thing)).encode()).hexdigest()[:16]


def original(name: str) -> Any:
    return getattr(driver.Consumer, name)


@pytest.mark.parametrize(("package", "wanted"), VERSIONS.items())
def test_the_version_is_the_one_that_was_tested(package: str, wanted: str) -> None:
    assert version(package) == wanted


def test_faust_is_compiled() -> None:
    assert importlib.import_module("faust._cython.streams").StreamIterator


@pytest.mark.parametrize(("name", "wanted"), OVERRIDDEN.items())
def test_what_we_override_is_as_it_was(name: str, wanted: str) -> None:
    assert digest(original(name)) == wanted


def test_the_list_of_overridden_methods_is_complete() -> None:
    ours = {name for name, value in vars(SafeConsumer).items() if inspect.isfunction(value) and name != "__init__"}
    assert {name for name in ours if hasattr(driver.Consumer, name)} == set(OVERRIDDEN)


@pytest.mark.parametrize("name", RELIED_ON)
def test_what_we_rely_on_is_as_it_was(name: str) -> None:
    thing, wanted = RELIED_ON[name]
    assert digest(thing) == wanted


def test_every_name_that_we_touch_exists() -> None:
    app = faust.App("seam", broker="kafka://127.0.0.1:1", value_serializer="raw")
    consumer = driver.Consumer(
        app.transport,
        callback=lambda message: None,
        on_partitions_revoked=lambda revoked: None,
        on_partitions_assigned=lambda assigned: None,
    )
    for name in (
        "_unacked_messages",
        "_n_acked",
        "_read_offset",
        "_buffered_partitions",
        "_get_active_partitions",
        "_getmany",
        "commit_and_end_transactions",
        "seek_to_committed",
        "flow_active",
        "can_resume_flow",
        "should_stop",
        "assignment",
        "highwater",
    ):
        assert hasattr(consumer, name), name
    assert hasattr(consumer.scheduler, "iterate")
    for name in ("seek_to_beginning", "call_thread", "_ensure_consumer"):
        assert hasattr(consumer._thread, name), name
    for name in ("consumer_generation_id", "rebalancing", "wait_until_stopped", "crash_reason", "transport"):
        assert hasattr(app, name), name
