"""What waits in the topics, and what the processes of a stack hold."""

import asyncio
import time

import psutil

from backbone.kafka import Admin
from backbone.settings import KafkaSettings
from headrace.local import stack as local
from schemas.topics import (
    CHUNKS,
    DEAD_LETTERS,
    DOCUMENTS,
    EMBEDDINGS,
    FEEDBACK,
    INGEST,
    LIFECYCLE,
    QUERIES,
    RESULTS,
    RETRIEVALS,
    SCORES,
    STAGES,
)
from tests.faults.disturbing import process_of
from tests.faults.history import History
from tests.stack import Stack

GROUPS = {
    "rag.intake": (INGEST,),
    "rag.chunk.structure": (DOCUMENTS,),
    "rag.embed.g1": (CHUNKS.named("structure"),),
    "rag.index.g1": (EMBEDDINGS.named("g1"),),
    "rag.lifecycle": (LIFECYCLE,),
    "rag.retrieve": (QUERIES,),
    "rag.generate": (RETRIEVALS,),
    "rag.score": (RESULTS,),
    "rag.evaluate": (RESULTS, SCORES, FEEDBACK),
    "rag.operator": tuple(DEAD_LETTERS.named(stage) for stage in STAGES if stage != "operator"),
}
POLL_S = 1.0


async def await_no_lag(stack: Stack, history: History, within_s: float) -> None:
    """Wait until no group has anything before it, and write down what each has then, or when the time is over."""
    admin = Admin(KafkaSettings(kafka_bootstrap=stack.kafka))
    end = time.monotonic() + within_s
    while True:
        lags = {
            group: await admin.group_lag(group, [topic.name for topic in topics]) for group, topics in GROUPS.items()
        }
        if not any(n for lag in lags.values() for n in lag.values()) or time.monotonic() > end:
            break
        await asyncio.sleep(POLL_S)
    for group, lag in lags.items():
        for topic, n in lag.items():
            history.add("lag", group=group, topic=topic, records=n)


def note_processes(stack: Stack, history: History, kind: str) -> None:
    """Write down the memory of each part, its children included, and the open handles of its process."""
    for part in local.status(stack.home).parts:
        process = process_of(stack, part.name)
        if process is not None:
            try:
                handles = process.num_fds()
            except psutil.Error:
                continue
            history.add(kind, part=part.name, rss_bytes=part.rss_bytes, handles=handles, uptime_s=part.uptime_s)
