"""A worker process for the soak: writes the offset of every record that it has handled into a file.

Usage: python -m tests.streams.runtime.soak_worker BOOTSTRAP TOPIC GROUP SEEN_FILE {safe,stock}
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from backbone.kafka import Publisher
from backbone.settings import KafkaSettings
from schemas.events import QueryAsked
from schemas.topics import QUERIES
from streams.runtime.app import Timing
from streams.runtime.consumer import SafeConsumer
from streams.runtime.record import Flush, Inbound, Outbound
from streams.runtime.stage import Stage
from streams.runtime.worker import run_process, run_worker
from tests.doubles.blobs import MemoryBlobs
from tests.streams.runtime.stock import StockConsumer

CONSUMERS = {"safe": SafeConsumer, "stock": StockConsumer}
SLOW_S = 2.0


async def main() -> int:
    bootstrap, topic, group, seen, consumer = sys.argv[1:]
    file = os.open(Path(seen), os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def handler(record: Inbound[QueryAsked]) -> AsyncIterator[Outbound | Flush]:
        assert record.event is not None
        if record.event.text == "hang":
            await asyncio.Event().wait()
        if record.event.text == "slow":
            await asyncio.sleep(SLOW_S)
        os.write(file, f"{record.origin.partition}:{record.origin.offset}\n".encode())
        return
        yield

    settings = KafkaSettings(kafka_bootstrap=bootstrap)
    stage = Stage(
        name="retrieve",
        group=group,
        topic=replace(QUERIES, name=topic),
        handler=handler,
        slots=8,
        deadline_s=60,
    )
    async with Publisher(settings) as publisher:
        return await run_worker(
            [stage],
            kafka=settings,
            publisher=publisher,
            blobs=MemoryBlobs(),
            timing=Timing(session_s=6, rebalance_s=10, drain_s=4),
            consumer=CONSUMERS[consumer],
            on_ready=lambda: print("ready", flush=True),
        )


if __name__ == "__main__":
    run_process(main)
