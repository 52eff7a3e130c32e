"""A worker that dies once at each of some places between two steps, and then is as any other.

`DIE_ONCE_IN=FOLDER python -m tests.faults.failing_worker --stages intake,index`; a file of the place's name in the
folder says that it died there. What says `refused` in its text is refused until it is redriven.
"""

import os
import sys
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from schemas.codec import ORIGIN_HEADER
from schemas.events import DocumentEmbedded
from schemas.topics import INGEST
from streams.__main__ import main
from streams.adapters.postgres_documents import PostgresDocuments
from streams.adapters.postgres_generation import PostgresGeneration
from streams.ports import Versioned
from streams.runtime.consumer import SafeConsumer
from streams.runtime.runner import Sender
from streams.runtime.stage import Stage
from streams.wiring import BUILDERS, Parts
from tests.faults.dying_worker import EXIT_DEAD
from tests.faults.worse_worker import Refusing

VARIABLE: Final = "DIE_ONCE_IN"
PLACES: Final = ("assigned", "published", "indexed", "sent")


def die_once(place: str) -> None:
    """End the process as SIGKILL does, unless one died here before."""
    try:
        os.close(os.open(Path(os.environ[VARIABLE]) / place, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return
    os._exit(EXIT_DEAD)


@dataclass(frozen=True, kw_only=True)
class DyingDocuments(PostgresDocuments):
    """Dies between giving a version and publishing it."""

    async def assign(self, *arguments: Any, **more: Any) -> Versioned:
        """Give a version."""
        given = await super().assign(*arguments, **more)
        die_once("assigned")
        return given


@dataclass(frozen=True, kw_only=True)
class DyingGeneration(PostgresGeneration):
    """Dies between the transaction and the event that tells of it."""

    async def replace(self, document: DocumentEmbedded, *, whole: bool = False) -> bool:
        """Make a version live."""
        done = await super().replace(document, whole=whole)
        die_once("indexed")
        return done


class DyingConsumer(SafeConsumer):
    """Dies between what a record's handler published and the commit of the record."""

    def ack(self, message: Any) -> bool:
        """Acknowledge, but for once."""
        die_once("published")
        return super().ack(message)


@dataclass(frozen=True, kw_only=True)
class DyingSender:
    """Dies between sending a record again and noting that."""

    sender: Sender

    def send(self, topic: str, **record: Any) -> Awaitable[Any]:
        """Send; who waits for a redriven record does not live to see it acknowledged."""
        sent = self.sender.send(topic, **record)
        redriven = topic == INGEST.name and ORIGIN_HEADER in dict(record["headers"])
        return _then_die(sent) if redriven else sent


async def _then_die(sent: Awaitable[Any]) -> Any:
    outcome = await sent
    die_once("sent")
    return outcome


def intake(parts: Parts) -> Stage:
    """Check and version, and die of it."""
    stage = BUILDERS["intake"](parts)
    handler: Any = stage.handler
    dying = replace(handler, documents=DyingDocuments(pool=parts.pool))
    return replace(stage, handler=Refusing(handler=dying, forget_origin=False))


def index(parts: Parts) -> Stage:
    """Make versions live, and die of it."""
    stage, there = BUILDERS["index"](parts), parts.chunks_and_vectors
    handler: Any = stage.handler
    dying = DyingGeneration(pool=there.pool, generation=there.generation, dim=there.dim)
    return replace(stage, handler=replace(handler, generation=dying))


def operator(parts: Parts) -> Stage:
    """Redrive, and die of it."""
    return BUILDERS["operator"](replace(parts, sender=DyingSender(sender=parts.sender)))


if __name__ == "__main__":
    builders = {**BUILDERS, "intake": intake, "index": index, "operator": operator}
    main(sys.argv[1:], consumer=DyingConsumer, builders=builders)
