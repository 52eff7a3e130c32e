"""A stack that was switched off for longer than Kafka keeps things, or was killed whole, comes back by itself."""

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource  # type: ignore[attr-defined]

from headrace.local import stack as local
from headrace.local.family import members
from headrace.local.table import Options
from schemas.topics import ANSWERS, CHUNKS, DOCUMENTS, EMBEDDINGS, INGEST, LIFECYCLE, QUERIES, RETRIEVALS
from tests.e2e.api import Api
from tests.stack import Stack, running

pytestmark = pytest.mark.timeout(360)

KEPT_FOR_DAYS = [topic.name for topic in (INGEST, LIFECYCLE, QUERIES, RETRIEVALS, ANSWERS)]
COMPACTED = [DOCUMENTS.name, CHUNKS.named("structure").name, EMBEDDINGS.named("g1").name]
READERS_OF_COMPACTED = ["rag.chunk.structure", "rag.embed.g1", "rag.index.g1"]
BROKER = {
    "log.initial.task.delay.ms": "500",
    "log.retention.check.interval.ms": "500",
    "log.cleaner.backoff.ms": "300",
}
AT_ONCE = {"segment.ms": "200", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "200"}
WHOLE = Options(kafka=BROKER, topics=dict.fromkeys(COMPACTED, AT_ONCE))
STORES = Options(kafka=BROKER, processes=())
WAIT_S = 40
FILLERS = 24


@pytest.fixture(scope="module")
def brief(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose Kafka compacts and forgets within seconds."""
    with running(tmp_path_factory.mktemp("brief"), WHOLE) as stack:
        yield stack


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited too long: {what}"
        time.sleep(0.2)


@contextlib.contextmanager
def reader(stack: Stack, group: str = "test") -> Iterator[Consumer]:
    consumer = Consumer({"bootstrap.servers": stack.kafka, "group.id": group, "log_level": 0})
    try:
        yield consumer
    finally:
        consumer.close()


def bounds(stack: Stack, topic: str) -> dict[int, tuple[int, int]]:
    """First and end offset of each partition."""
    with reader(stack) as consumer:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        return {each: consumer.get_watermark_offsets(TopicPartition(topic, each), timeout=10) for each in partitions}


def is_empty(stack: Stack, topic: str) -> bool:
    return all(first == end for first, end in bounds(stack, topic).values())


def is_out_of_range(stack: Stack, group: str, topic: str) -> bool:
    """Say whether all that a group has committed lies before the first record that is left."""
    found = bounds(stack, topic)
    with reader(stack, group) as consumer:
        places = consumer.committed([TopicPartition(topic, partition) for partition in found], timeout=10)
    committed = {place.partition: place.offset for place in places if place.offset >= 0}
    return bool(committed) and all(offset < found[partition][0] for partition, offset in committed.items())


def keys(stack: Stack, topic: str) -> list[str]:
    """Keys of all records that a topic still holds, tombstones too."""
    left = {partition: end for partition, (first, end) in bounds(stack, topic).items() if first < end}
    found = []
    with reader(stack) as consumer:
        consumer.assign([TopicPartition(topic, partition, 0) for partition in left])
        while left:
            for message in consumer.consume(500, timeout=0.3):
                found.append((message.key() or b"").decode())
            for place in consumer.position(consumer.assignment()):
                if place.offset >= left.get(place.partition, place.offset + 1):
                    del left[place.partition]
    return found


def fill(acme: Api) -> None:
    """Put a document of three versions, and one that is deleted."""
    for weir in ("first", "second", "third"):
        acme.put({"id": "heron", "text": f"The heron stands at the {weir} weir, and is the heron of the {weir} weir."})
    acme.put({"id": "bittern", "text": "The bittern stands in the reed bed."})
    acme.settle(acme.delete("bittern"))
    expect_all_there(acme)


def expect_all_there(api: Api) -> None:
    """The old document answers in its last version, the deleted one does not, and a fresh one can be added."""
    for ranker in ("dense", "lexical"):
        api.find("heron of the third weir", "heron", rankers=[ranker])
        assert "bittern" not in {hit["document_id"] for hit in api.search("bittern reed bed", rankers=[ranker])}
    answer = api.query("Where does the heron stand?")
    assert {citation["document_id"] for citation in answer["citations"]} == {"heron"}
    assert "third weir" in answer["answer"]
    assert api.document("bittern").status_code == 404
    assert api.document("heron").json()["status"] == "indexed"


def let_retention_pass(stack: Stack) -> None:
    """Produce what no worker reads, and let Kafka forget it and all before it; committed offsets are then too low.

    Groups whose topics are compacted lose their offsets, which Kafka forgets after seven days as well.
    """
    producer = Producer({"bootstrap.servers": stack.kafka})
    for name in KEPT_FOR_DAYS:
        for partition in bounds(stack, name):
            producer.produce(name, b"lost", partition=partition)
    assert producer.flush(20) == 0
    admin = AdminClient({"bootstrap.servers": stack.kafka})
    keep_for(admin, "1")
    until(lambda: all(is_empty(stack, name) for name in KEPT_FOR_DAYS), "retention")
    assert is_out_of_range(stack, "rag.intake", INGEST.name)
    assert is_out_of_range(stack, "rag.lifecycle", LIFECYCLE.name)
    assert is_out_of_range(stack, "rag.retrieve", QUERIES.name)
    assert is_out_of_range(stack, "rag.generate", RETRIEVALS.name)
    keep_for(admin, "86400000")
    for forgotten in admin.delete_consumer_groups(READERS_OF_COMPACTED).values():
        forgotten.result(20)


def keep_for(admin: AdminClient, retention_ms: str) -> None:
    """Change the retention of the topics that are kept for days."""
    entry = ConfigEntry("retention.ms", retention_ms, incremental_operation=AlterConfigOpType.SET)
    resources = [ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[entry]) for name in KEPT_FOR_DAYS]
    for changed in admin.incremental_alter_configs(resources).values():
        changed.result(20)


def compact(stack: Stack, acme: Api) -> None:
    """Write until Kafka has cleaned: old versions and the deleted document are gone from the log."""

    def cleaned() -> bool:
        acme.put(*({"id": f"filler-{n}", "text": f"Filler {n} at {time.monotonic()}."} for n in range(FILLERS)))
        found = keys(stack, CHUNKS.named("structure").name)
        return found.count("acme/heron") == 1 and "acme/bittern" not in found

    # A segment is closed by the next record of its partition alone, so every partition must get one.
    until(cleaned, "compaction")


def expect_new_work(api: Api, document: str) -> None:
    """Documents and questions that come only then are done as ever."""
    api.put({"id": document, "text": f"The {document} counts the gates of the upper sluice."})
    answer = api.query(f"What does the {document} count?")
    assert document in {citation["document_id"] for citation in answer["citations"]}


def test_a_stack_that_was_off_beyond_retention_comes_back_by_itself(brief: Stack) -> None:
    acme = Api.connect(brief.url, "acme-key")
    fill(acme)
    compact(brief, acme)
    local.down(brief.home)

    local.up(brief.home, STORES)
    let_retention_pass(brief)
    local.down(brief.home)
    shutil.rmtree(brief.home.data("lexical") / "worker-query")
    local.up(brief.home, WHOLE)

    acme = Api.connect(brief.url, "acme-key")
    expect_all_there(acme)
    expect_new_work(acme, "warden")
    assert local.status(brief.home).ready


def test_a_stack_of_which_every_process_was_killed_comes_back_with_all_it_had(brief: Stack) -> None:
    acme = Api.connect(brief.url, "acme-key")
    fill(acme)
    acknowledged = acme.ingest({"id": "keeper", "text": "The keeper counts the gates of the upper sluice."})
    for member in members(brief.home.path):
        with contextlib.suppress(psutil.NoSuchProcess):
            member.process.kill()
    until(lambda: not members(brief.home.path), "the end of all processes")

    local.up(brief.home, WHOLE)

    acme = Api.connect(brief.url, "acme-key")
    assert [document["status"] for document in acme.settle(*acknowledged)] == ["indexed"]
    expect_all_there(acme)
    expect_new_work(acme, "beaver")
    assert local.status(brief.home).ready
