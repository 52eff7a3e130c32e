"""What the gateway needs from outside, as roles; tests put doubles in their place."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from backbone.kafka import Delivered
from backbone.settings import GatewaySettings
from gateway.auth import ApiKeys, Caller
from gateway.replies import Replies
from schemas.codec import Blobs
from schemas.events import QueryAsked


class Sender(Protocol):
    """Sends records to Kafka; `backbone.kafka.Publisher` is one."""

    def send(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Mapping[str, bytes | None],
        partition: int | None = None,
    ) -> "asyncio.Future[Delivered]":
        """Send a record; the future fails with `PublishFailed`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentRow:
    """A document as Postgres knows it; `attributes` is its description for readers.

    `applied` maps a partition of the ingest topic to the last offset that intake has applied. `readable`: the caller's
    groups may see it.
    """

    id: str
    status: str
    deleted: bool
    readable: bool
    attributes: Mapping[str, Any]
    applied: Mapping[int, int]


class DocumentRows(Protocol):
    """Reads documents of one tenant. Methods raise `Problem` 503 where Postgres is away."""

    async def find(self, caller: Caller, documents: Sequence[str]) -> dict[str, DocumentRow]:
        """Return what is known of these ids, readable or not, deleted or not."""
        ...

    async def page(
        self, caller: Caller, *, collection: str | None, status: str | None, after: str, limit: int
    ) -> list[DocumentRow]:
        """Return readable documents in order of id, those with an id over `after`; deleted ones if asked by status."""
        ...

    async def content(self, caller: Caller, document: str) -> str | None:
        """Return the object that holds the text of the live version; None where nothing readable is live."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionRow:
    """A question as Postgres knows it. Times are milliseconds since the epoch; `elapsed_ms` once finished."""

    id: str
    query: str
    user: str | None
    state: str
    generation: str
    attempt: int
    answer: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    created_ms: int
    finished_ms: int | None


class QuestionRows(Protocol):
    """Keeps accepted questions. Methods raise `Problem` 503 where Postgres is away."""

    async def generation(self) -> str:
        """Return the generation that the alias names, at most a second old.

        Raises:
            Problem: 503, the alias does not exist.
        """
        ...

    async def insert(self, question: QueryAsked) -> None:
        """Insert a row in state `pending`; its deadline counts from now on Postgres' clock."""
        ...

    async def reject(self, query: str) -> bool:
        """End a question that Kafka may not have; False where it was claimed or ended meanwhile."""
        ...

    async def expire(self, query: str) -> bool:
        """End a question that ran out of time; False where it has ended before."""
        ...

    async def find(self, tenant: str, query: str) -> QuestionRow | None:
        """Return a question of this tenant."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """All that the routes use.

    `checks` maps the name of a dependency to what raises, with the reason, when it does not work.
    """

    settings: GatewaySettings
    keys: ApiKeys
    sender: Sender
    blobs: Blobs
    documents: DocumentRows
    questions: QuestionRows
    replies: Replies
    checks: Mapping[str, Callable[[], Awaitable[object]]]
