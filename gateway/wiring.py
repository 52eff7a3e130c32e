"""Opens what a running gateway needs, from its settings."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from backbone.kafka import Admin, Publisher
from backbone.objects import FolderBlobs
from backbone.postgres import open_pool
from backbone.settings import GatewaySettings
from gateway.auth import ApiKeys
from gateway.document_rows import PostgresDocumentRows
from gateway.key_rows import PostgresKeyRows
from gateway.ports import Services
from gateway.questions import PostgresQuestionRows
from gateway.replies import Replies, read_replies
from gateway.sweeper import Sweeper
from gateway.swept_rows import PostgresSweptRows
from gateway.topic_id import TopicId
from schemas.topics import INGEST

_logger = logging.getLogger(__name__)


@asynccontextmanager
async def connect(settings: GatewaySettings) -> AsyncIterator[Services]:
    """Open pool, producer and reader of replies; Kafka and Postgres may still be down.

    Raises:
        BadKeysFile: there are no usable API keys.
    """
    keys = ApiKeys(settings.api_keys_file)
    blobs, admin = FolderBlobs(settings.objects_dir), Admin(settings)
    replies, pool = Replies(blobs), await open_pool(settings)
    questions = PostgresQuestionRows(pool=pool, alias=settings.generation_alias)

    async def check_replies() -> None:
        if not replies.ready:
            raise RuntimeError("replies are not being read; is Kafka there, with its topics?")

    reading = asyncio.create_task(read_replies(settings, replies, partition=-1), name="replies")
    reading.add_done_callback(_say_why_it_ended)
    try:
        async with Publisher(settings, on_broken=_end) as publisher:
            services = Services(
                settings=settings,
                keys=keys,
                sender=publisher,
                blobs=blobs,
                documents=PostgresDocumentRows(pool=pool, alias=settings.generation_alias, topic_id=TopicId(admin)),
                questions=questions,
                swept=PostgresSweptRows(pool=pool, republish_after_s=settings.republish_after_ms / 1000),
                idempotency=PostgresKeyRows(pool=pool),
                replies=replies,
                checks={
                    "kafka": lambda: admin.end_offsets(INGEST.name),
                    "postgres": questions.generation,
                    "objects": blobs.check,
                    "reply_reader": check_replies,
                },
            )
            sweeping = asyncio.create_task(Sweeper(services=services).run(), name="sweeper")
            try:
                yield services
            finally:
                sweeping.cancel()
                await asyncio.gather(sweeping, return_exceptions=True)
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        await pool.close()


def _say_why_it_ended(reading: "asyncio.Task[None]") -> None:
    if not reading.cancelled() and (error := reading.exception()) is not None:
        _logger.critical("the reader of replies has ended; restart the gateway", exc_info=error)


def _end() -> None:
    """Stop serving in good order; whoever started the process starts it again."""
    os.kill(os.getpid(), signal.SIGTERM)
