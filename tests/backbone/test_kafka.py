"""Kafka: settings of the clients, topics from the table, awaited deliveries, the reader."""

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]
from pydantic import SecretStr

from backbone.kafka import (
    BEGIN,
    END,
    Admin,
    AtEnd,
    GroupInUse,
    Last,
    MissingTopic,
    Overtaken,
    PartitionReader,
    Publisher,
    PublishFailed,
    Received,
    client_config,
    record_at,
    ssl_context,
    topic_config,
)
from backbone.settings import KafkaSettings
from schemas.topics import DEAD_LETTERS, DOCUMENTS, INGEST, QUERIES, Topic

STARTING = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)


def fresh(topic: Topic, partitions: int = 1) -> Topic:
    return replace(topic, name=f"t-{uuid.uuid4().hex}", partitions=partitions)


def commit(settings: KafkaSettings, group: str, *places: TopicPartition) -> None:
    """Commit for a group, and again while its coordinator is only just starting."""
    consumer, end = Consumer(client_config(settings) | {"group.id": group}), time.monotonic() + 20
    try:
        while True:
            try:
                consumer.commit(offsets=list(places), asynchronous=False)
                return
            except KafkaException as error:
                if error.args[0].code() not in STARTING or time.monotonic() > end:
                    raise
            time.sleep(0.1)
    finally:
        consumer.close()


@pytest.fixture
def settings(kafka: str) -> KafkaSettings:
    return KafkaSettings(kafka_bootstrap=kafka)


@pytest.fixture
async def publisher(settings: KafkaSettings) -> AsyncIterator[Publisher]:
    async with Publisher(settings) as publisher:
        yield publisher


def test_a_plain_connection_needs_no_credentials() -> None:
    config = client_config(KafkaSettings(kafka_bootstrap="a:1,b:2"))
    assert config == {
        "bootstrap.servers": "a:1,b:2",
        "security.protocol": "PLAINTEXT",
        "log_level": 0,
        "allow.auto.create.topics": False,
        "socket.nagle.disable": True,
        "socket.timeout.ms": 10_000,
    }
    assert ssl_context(KafkaSettings()) is None


def test_credentials_and_authorities_reach_the_client() -> None:
    config = client_config(
        KafkaSettings(
            kafka_security_protocol="SASL_SSL",
            kafka_username="u",
            kafka_password=SecretStr("p"),
            kafka_ca_file=Path("ca.pem"),
        )
    )
    assert config["security.protocol"] == "SASL_SSL"
    assert config["sasl.mechanism"] == "SCRAM-SHA-512"
    assert (config["sasl.username"], config["sasl.password"]) == ("u", "p")
    assert config["ssl.ca.location"] == "ca.pem"


def test_compacted_topics_keep_their_tombstones_for_a_month() -> None:
    assert topic_config(DOCUMENTS) == {
        "cleanup.policy": "compact",
        "delete.retention.ms": "2592000000",
        "max.compaction.lag.ms": "604800000",
        "max.message.bytes": "2097152",
        "compression.type": "producer",
    }


def test_of_three_replicas_two_must_have_a_record() -> None:
    assert topic_config(DOCUMENTS, 3)["min.insync.replicas"] == "2"
    assert "min.insync.replicas" not in topic_config(DOCUMENTS, 2)


def test_other_topics_are_kept_as_long_as_the_table_says() -> None:
    config = topic_config(INGEST)
    assert (config["cleanup.policy"], config["retention.ms"]) == ("delete", "604800000")


def test_a_dead_letter_topic_takes_any_record_of_any_topic_with_its_reasons() -> None:
    assert int(topic_config(DEAD_LETTERS)["max.message.bytes"]) > int(topic_config(INGEST)["max.message.bytes"])


@pytest.mark.integration
async def test_topics_are_made_once_with_their_settings(settings: KafkaSettings) -> None:
    admin, topic = Admin(settings), fresh(INGEST, 3)
    overrides = {topic.name: {"retention.ms": "60000"}}
    assert await admin.ensure_topics([topic], overrides) == [topic.name]
    assert await admin.ensure_topics([topic]) == []
    client = AdminClient(client_config(settings))
    (asked,) = client.describe_configs([ConfigResource(ResourceType.TOPIC, topic.name)]).values()
    config = await asyncio.wrap_future(asked)
    assert config["retention.ms"].value == "60000"
    assert config["max.message.bytes"].value == "2097152"
    assert await admin.end_offsets(topic.name) == {0: 0, 1: 0, 2: 0}


@pytest.mark.integration
async def test_a_topic_made_again_has_another_id(settings: KafkaSettings) -> None:
    admin, topic = Admin(settings), fresh(QUERIES)
    await admin.ensure_topics([topic])
    first = await admin.topic_ids([topic.name])
    client = AdminClient(client_config(settings))
    (deleted,) = client.delete_topics([topic.name]).values()
    await asyncio.wrap_future(deleted)
    async with asyncio.timeout(10):
        while await admin.ensure_topics([topic]) == []:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert first[topic.name] != (await admin.topic_ids([topic.name]))[topic.name]


@pytest.mark.integration
async def test_a_topic_that_does_not_exist_is_named(settings: KafkaSettings) -> None:
    with pytest.raises(MissingTopic, match="'nowhere' does not exist"):
        await Admin(settings).topic_ids(["nowhere"])
    with pytest.raises(MissingTopic, match="'nowhere' does not exist"):
        await Admin(settings).end_offsets("nowhere")


@pytest.mark.integration
async def test_a_group_goes_back_to_a_time_and_skips_nothing(settings: KafkaSettings, publisher: Publisher) -> None:
    admin, topic, group = Admin(settings), fresh(INGEST, 2), f"g-{uuid.uuid4().hex}"
    await admin.ensure_topics([topic])
    for partition in (0, 0, 0, 1, 1):
        await publisher.send(topic.name, key=b"k", value=b"v", partition=partition)
    third = await record_at(settings, topic.name, 0, 2)
    assert third is not None
    commit(settings, group, TopicPartition(topic.name, 0, 3), TopicPartition(topic.name, 1, 1))

    assert await admin.group_places(group, topic.name) == {0: 3, 1: 1}
    assert await admin.rewind(group, topic.name, third.timestamp_ms + 3_600_000) == 0
    assert await admin.group_lag(group, [topic.name]) == {topic.name: 1}
    assert await admin.rewind(group, topic.name, 0) == 4
    assert await admin.group_lag(group, [topic.name]) == {topic.name: 5}


@pytest.mark.integration
async def test_a_group_with_members_keeps_its_offsets(settings: KafkaSettings) -> None:
    admin, topic, group = Admin(settings), fresh(INGEST), f"g-{uuid.uuid4().hex}"
    await admin.ensure_topics([topic])
    consumer = Consumer(client_config(settings) | {"group.id": group})
    try:
        consumer.subscribe([topic.name])
        async with asyncio.timeout(20):
            while not consumer.assignment():
                await asyncio.to_thread(consumer.poll, 0.1)
        with pytest.raises(GroupInUse, match=r"has 1 member\(s\)"):
            await admin.rewind(group, topic.name, 0)
    finally:
        consumer.close()


@pytest.mark.integration
async def test_a_group_that_never_committed_lags_by_all_that_is_kept(
    settings: KafkaSettings, publisher: Publisher
) -> None:
    admin, topic = Admin(settings), fresh(QUERIES, 2)
    await admin.ensure_topics([topic])
    await asyncio.gather(*(publisher.send(topic.name, key=None, value=b"v", partition=n % 2) for n in range(5)))
    assert await admin.group_lag("nobody", [topic.name]) == {topic.name: 5}
    assert await admin.group_places("nobody", topic.name) == {0: 0, 1: 0}
    assert await admin.unclaimed_partitions("nobody", topic.name) == 2


@pytest.mark.integration
async def test_a_record_too_large_fails_and_the_next_passes(settings: KafkaSettings, publisher: Publisher) -> None:
    topic = fresh(QUERIES)
    await Admin(settings).ensure_topics([topic])
    with pytest.raises(PublishFailed, match="Message size too large"):
        await publisher.send(topic.name, key=None, value=bytes(5 * 1024 * 1024))
    assert (await publisher.send(topic.name, key=None, value=b"v")).offset == 0


@pytest.mark.integration
async def test_an_incompressible_value_of_one_mebibyte_fits_inline(
    settings: KafkaSettings, publisher: Publisher
) -> None:
    topic = fresh(QUERIES)
    await Admin(settings).ensure_topics([topic])
    delivered = await publisher.send(
        topic.name, key=b"k" * 600, value=os.urandom(1024 * 1024), headers={"h": b"x" * 500}
    )
    assert delivered.offset == 0


@pytest.mark.integration
async def test_leaving_the_publisher_waits_for_what_is_on_its_way(settings: KafkaSettings) -> None:
    topic = fresh(QUERIES)
    await Admin(settings).ensure_topics([topic])
    async with Publisher(settings) as publisher:
        sent = [publisher.send(topic.name, key=None, value=str(n).encode()) for n in range(1_000)]
    assert [delivered.offset for delivered in await asyncio.gather(*sent)] == list(range(1_000))


@pytest.mark.integration
async def test_the_reader_reads_from_an_offset_to_the_end_and_beyond(
    settings: KafkaSettings, publisher: Publisher
) -> None:
    topic = fresh(QUERIES, 2)
    await Admin(settings).ensure_topics([topic])
    headers = [("h", None), ("h", b"2")]
    for n in range(4):
        await publisher.send(topic.name, key=b"k", value=str(n).encode(), partition=0, headers=headers)
    async with PartitionReader(settings, topic.name, {0: 2, 1: END}) as reader:
        items = reader.__aiter__()
        first = [await asyncio.wait_for(anext(items), 10) for _ in range(4)]
        received = [item for item in first if isinstance(item, Received)]
        assert [(item.offset, item.value) for item in received] == [(2, b"2"), (3, b"3")]
        assert received[0].headers == headers
        ends = [item for item in first if isinstance(item, AtEnd)]
        assert sorted((end.partition, end.offset) for end in ends) == [(0, 4), (1, 0)]
        await publisher.send(topic.name, key=None, value=None, partition=1)
        late = await asyncio.wait_for(anext(items), 10)
        assert isinstance(late, Received) and (late.partition, late.offset, late.value) == (1, 0, None)


@pytest.mark.integration
async def test_the_reader_says_when_records_were_deleted_before_it_read_them(
    settings: KafkaSettings, publisher: Publisher
) -> None:
    topic = fresh(QUERIES)
    await Admin(settings).ensure_topics([topic])
    await asyncio.gather(*(publisher.send(topic.name, key=None, value=str(n).encode()) for n in range(10)))
    client = AdminClient(client_config(settings))
    (deleted,) = client.delete_records([TopicPartition(topic.name, 0, 7)]).values()
    await asyncio.wrap_future(deleted)
    async with PartitionReader(settings, topic.name, {0: 2}) as reader:
        items = reader.__aiter__()
        assert await asyncio.wait_for(anext(items), 10) == Overtaken(partition=0, resumed=7)
        following = await asyncio.wait_for(anext(items), 10)
        assert isinstance(following, Received) and following.value == b"7"


@pytest.mark.integration
async def test_the_reader_refuses_a_partition_that_is_not_there(settings: KafkaSettings) -> None:
    topic = fresh(QUERIES)
    await Admin(settings).ensure_topics([topic])
    with pytest.raises(MissingTopic, match=r"has partitions 0 to 0, not \[3\]"):
        async with PartitionReader(settings, topic.name, {3: BEGIN}):
            pass


@pytest.mark.integration
async def test_a_slow_caller_holds_the_reader_back(settings: KafkaSettings, publisher: Publisher) -> None:
    topic = fresh(QUERIES)
    await Admin(settings).ensure_topics([topic])
    await asyncio.gather(*(publisher.send(topic.name, key=None, value=b"v") for _ in range(5_000)))
    async with PartitionReader(settings, topic.name, {0: BEGIN}) as reader:
        n_read = 0
        async for item in reader:
            assert reader.n_buffered <= 2_000
            if isinstance(item, AtEnd):
                break
            n_read += 1
    assert n_read == 5_000


@pytest.mark.integration
async def test_partitions_are_added_and_dropped_while_the_reader_reads(
    settings: KafkaSettings, publisher: Publisher
) -> None:
    topic = fresh(QUERIES, 3)
    await Admin(settings).ensure_topics([topic])
    for partition in range(3):
        for n in range(6):
            await publisher.send(topic.name, key=None, value=str(n).encode(), partition=partition)
    async with PartitionReader(settings, topic.name, {0: 4}) as reader:
        items = reader.__aiter__()

        async def read_to_end() -> list[tuple[int, int]]:
            found = []
            async with asyncio.timeout(10):
                while not isinstance(item := await anext(items), AtEnd):
                    assert isinstance(item, Received)
                    found.append((item.partition, item.offset))
            return found

        assert await read_to_end() == [(0, 4), (0, 5)]
        await reader.add({1: Last(2)})
        assert await read_to_end() == [(1, 4), (1, 5)]
        await reader.add({2: Last(100)})
        assert [offset for _, offset in await read_to_end()] == [0, 1, 2, 3, 4, 5]
        assert reader.partitions == {0, 1, 2}
        reader.drop(0)
        await publisher.send(topic.name, key=None, value=b"unheard", partition=0)
        await publisher.send(topic.name, key=None, value=b"heard", partition=1)
        assert await read_to_end() == [(1, 6)]


@pytest.mark.integration
async def test_a_partition_that_is_added_again_begins_at_its_new_place(
    settings: KafkaSettings, publisher: Publisher
) -> None:
    topic = fresh(QUERIES)
    await Admin(settings).ensure_topics([topic])
    await asyncio.gather(*(publisher.send(topic.name, key=None, value=b"v") for _ in range(3_000)))
    async with PartitionReader(settings, topic.name, {0: BEGIN}) as reader:
        items = reader.__aiter__()
        first = await asyncio.wait_for(anext(items), 10)
        assert isinstance(first, Received) and first.offset == 0
        # the thread has read on by now; nothing of that may come after the change
        await reader.add({0: 1_000})
        following = await asyncio.wait_for(anext(items), 10)
        assert isinstance(following, Received) and following.offset == 1_000
        with pytest.raises(MissingTopic, match=r"not \[7\]"):
            await reader.add({7: END})
