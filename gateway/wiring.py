"""Opens what a running gateway needs, from its settings."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

from backbone.kafka import Admin, PartitionReader, Publisher, record_at
from backbone.objects import FolderBlobs
from backbone.postgres import open_pool
from backbone.settings import GatewaySettings
from backbone.valkey import connected
from gateway.admission.opening import of_questions, of_searches
from gateway.auth import ApiKeys
from gateway.document_rows import PostgresDocumentRows
from gateway.gate_rows import PostgresGateRows
from gateway.generation_rows import PostgresGenerationRows
from gateway.key_rows import PostgresKeyRows
from gateway.letter_rows import PostgresLetterRows
from gateway.log.shared import SharedLog, tenant_of
from gateway.opensearch import opensearch_check
from gateway.ports import Services
from gateway.postgres import STATEMENT_S
from gateway.questions import PostgresQuestionRows
from gateway.rebuild_rows import PostgresRebuildRows
from gateway.replies import Replies
from gateway.reply_leases import ReplyLease
from gateway.sse import OpenStreams
from gateway.sweeper import Sweeper
from gateway.swept_rows import PostgresSweptRows
from gateway.topic_id import TopicId
from gateway.verification_rows import PostgresVerificationRows
from schemas.topics import ANSWERS, INGEST, LIFECYCLE

_LIFECYCLE_MEMORY_BYTES: Final = 1024 * 1024
_LIFECYCLE_WARM_RECORDS: Final = 500
"""Both of each partition; fewer than of replies, because fewer readers follow documents."""
_logger = logging.getLogger(__name__)


@asynccontextmanager
async def connect(settings: GatewaySettings) -> AsyncIterator[Services]:
    """Open pool, producer and reader of replies; Kafka and Postgres may still be down.

    Raises:
        BadKeysFile: there are no usable API keys.
    """
    keys = ApiKeys(settings.api_keys_file)
    blobs, admin = FolderBlobs(settings.objects_dir), Admin(settings)
    replies = Replies(partial(PartitionReader, settings, ANSWERS.name), blobs)
    lifecycle = SharedLog(
        partial(PartitionReader, settings, LIFECYCLE.name),
        group_of=tenant_of,
        memory_max_bytes=_LIFECYCLE_MEMORY_BYTES,
        warm_records=_LIFECYCLE_WARM_RECORDS,
    )
    pool = await open_pool(settings, statement_s=STATEMENT_S)
    questions = PostgresQuestionRows(pool=pool, alias=settings.generation_alias)

    async def check_replies() -> None:
        if not replies.ready:
            raise RuntimeError("replies are not being read; is Kafka there, with its topics?")

    reading = asyncio.create_task(replies.log.run(), name="replies")
    leasing = asyncio.create_task(ReplyLease(pool=pool, admin=admin, replies=replies).run(), name="reply lease")
    following = asyncio.create_task(lifecycle.run(), name="lifecycle")
    for task in (reading, leasing, following):
        task.add_done_callback(_say_why_it_ended)
    try:
        async with (
            Publisher(settings, on_broken=_end) as publisher,
            connected(settings) as valkey,
            AsyncExitStack() as resources,
        ):
            # all gateways share one store, and questions and small documents need none
            optional: dict[str, Callable[[], Awaitable[object]]] = {"objects": blobs.check}
            if valkey.used:
                optional["valkey"] = valkey.check
            if settings.opensearch_url:
                optional["opensearch"] = opensearch_check(settings, resources)
            services = Services(
                settings=settings,
                keys=keys,
                sender=publisher,
                blobs=blobs,
                documents=PostgresDocumentRows(pool=pool, alias=settings.generation_alias, topic_id=TopicId(admin)),
                questions=questions,
                swept=PostgresSweptRows(pool=pool, republish_after_s=settings.republish_after_ms / 1000),
                idempotency=PostgresKeyRows(pool=pool),
                letters=PostgresLetterRows(pool=pool),
                verifications=PostgresVerificationRows(pool=pool),
                generations=PostgresGenerationRows(pool=pool, alias=settings.generation_alias),
                rebuilds=PostgresRebuildRows(pool=pool),
                gates=PostgresGateRows(pool=pool),
                record_at=partial(record_at, settings),
                replies=replies,
                lifecycle=lifecycle,
                streams=OpenStreams(settings.streams_max),
                admission=of_questions(settings, pool, valkey),
                searches=of_searches(settings),
                checks={
                    "kafka": lambda: admin.end_offsets(INGEST.name),
                    "postgres": questions.generation,
                    "reply_reader": check_replies,
                },
                optional_checks=optional,
            )
            tasks = [
                asyncio.create_task(Sweeper(services=services).run(), name="sweeper"),
                asyncio.create_task(services.admission.run(), name="admission"),
                asyncio.create_task(services.searches.run(), name="admission of searches"),
            ]
            for task in tasks:
                task.add_done_callback(_say_why_it_ended)
            try:
                yield services
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        for task in (leasing, reading, following):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await pool.close()


def _say_why_it_ended(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _logger.critical("the task %r has ended; restart the gateway", task.get_name(), exc_info=error)


def _end() -> None:
    """Stop serving in good order; whoever started the process starts it again."""
    os.kill(os.getpid(), signal.SIGTERM)
