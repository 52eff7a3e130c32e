"""How far a group has come, on a real Kafka."""

import uuid
from dataclasses import replace

import pytest
from confluent_kafka import Consumer, TopicPartition

from backbone.kafka import Admin, Publisher, client_config
from backbone.settings import KafkaSettings
from schemas.topics import INGEST
from streams.adapters.kafka_hop import KafkaHop
from streams.errors import Transient


@pytest.mark.integration
async def test_a_hop_tells_ends_and_what_is_handled(kafka: str) -> None:
    settings, group = KafkaSettings(kafka_bootstrap=kafka), f"g-{uuid.uuid4().hex}"
    topic = replace(INGEST, name=f"t-{uuid.uuid4().hex}", partitions=2)
    hop = KafkaHop(admin=Admin(settings), group=group, topic=topic.name)
    with pytest.raises(Transient, match=topic.name):
        await hop.ends()
    await Admin(settings).ensure_topics([topic])
    async with Publisher(settings) as publisher:
        for partition in (0, 0, 1):
            await publisher.send(topic.name, key=b"k", value=b"v", partition=partition)
    assert (await hop.ends(), await hop.handled()) == ({0: 2, 1: 1}, {0: 0, 1: 0})

    consumer = Consumer(client_config(settings) | {"group.id": group})
    consumer.commit(offsets=[TopicPartition(topic.name, 0, 1)], asynchronous=False)
    consumer.close()

    assert await hop.handled() == {0: 1, 1: 0}
