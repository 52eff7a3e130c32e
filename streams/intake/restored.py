"""What a database that was restored from an older backup has forgotten, and the documents topic still knows."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from schemas.events import DocumentAccepted
from schemas.ids import DocumentKey
from streams.errors import Fatal
from streams.intake.published import attributes_of
from streams.ports import DocumentStore, Origins


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A version as the documents topic holds it. `event` None: it deletes the document."""

    key: DocumentKey
    version: int
    event: DocumentAccepted | None
    origins: Origins
    at_ms: int


class DocumentLog(Protocol):
    """The documents topic. All methods raise `Transient` when Kafka is away."""

    def since(self, timestamp_ms: int) -> AsyncIterator[Published]:
        """Yield what was published at that time or later, to the end as it is at the call; order within a key."""
        ...

    async def newest(self) -> list[tuple[DocumentKey, int]]:
        """Return documents and versions of the last records of each partition."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Learnt:
    """How many versions were looked at, and how many of them the database did not know."""

    n_read: int
    n_learnt: int


async def learn(log: DocumentLog, documents: DocumentStore, since_ms: int) -> Learnt:
    """Teach the store every version since then that it does not know. Idempotent."""
    n_read = n_learnt = 0
    async for each in log.since(since_ms):
        n_read += 1
        n_learnt += await documents.learn(
            each.key,
            each.version,
            each.origins,
            deleted=each.event is None,
            attributes=attributes_of(each.event),
            at_ms=each.at_ms,
        )
    return Learnt(n_read=n_read, n_learnt=n_learnt)


async def check_not_behind(log: DocumentLog, documents: DocumentStore) -> None:
    """Check that the store knows the last versions that were published: each is committed before it is published.

    Raises:
        Fatal: it does not, so it would give versions again that stand in the log with another content.
        Transient: Kafka or Postgres is away.
    """
    for key, version in await log.newest():
        latest = await documents.latest_version(key)
        if latest is None or latest < version:
            raise Fatal(
                f"the database is older than the log: it knows version {latest or 0} of {str(key)!r}, the documents "
                f"topic holds version {version}. Was it restored from a backup? Stop all workers, and run "
                "headrace groups reset --to TIME, TIME being ten minutes before the backup was begun"
            )
