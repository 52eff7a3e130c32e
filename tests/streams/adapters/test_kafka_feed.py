"""The feed of the lexical view, as far as no Kafka is needed for it."""

import asyncio

from backbone.kafka import Received
from streams.adapters.kafka_feed import Item, _drain


async def test_a_read_that_is_cancelled_at_the_moment_in_which_a_record_arrives_ends() -> None:
    arrived: asyncio.Queue[Item] = asyncio.Queue()

    async def read() -> None:
        while True:
            await _drain(arrived)

    reading = asyncio.create_task(read())
    for _ in range(2):
        await asyncio.sleep(0)
    arrived.put_nowait(
        Received(topic="t", partition=0, offset=0, key=b"k", value=b"v", headers=(), timestamp_ms=0),
    )
    await asyncio.sleep(0)
    reading.cancel()

    done, _ = await asyncio.wait([reading], timeout=5)
    assert done == {reading}
    assert reading.cancelled()
