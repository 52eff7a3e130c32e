"""Versions of documents in memory."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from schemas.ids import DocumentKey
from schemas.topics import INGEST
from streams import ports
from streams.lifecycle.rank import REJECTED_RANK, STATUS_RANKS
from streams.ports import Latest, Origins, Versioned
from streams.runtime.record import Origin


@dataclass(kw_only=True)
class Applied:
    """The last record of a partition that was applied to a document."""

    offset: int
    version: int
    rejected: bool = False
    base_ms: int | None = None


@dataclass(kw_only=True)
class DocumentRow:
    """What is known of one document."""

    latest_version: int = 0
    accepted_ms: int = 0
    deleted: bool = False
    deleted_version: int = 0
    origins: dict[tuple[str, int], Applied] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    status: str = "accepted"
    status_version: int = 0
    status_rank: int = 0
    stage: str | None = None
    failure_reason: str | None = None
    failure_message: str | None = None
    warnings: list[str] = field(default_factory=list)
    warnings_version: int = 0
    n_chunks: int | None = None

    def say(self, status: str, rank: int, stage: str, reason: str | None = None, message: str | None = None) -> None:
        self.status, self.status_rank, self.stage = status, rank, stage
        self.failure_reason, self.failure_message = reason, message


@dataclass(kw_only=True)
class MemoryDocuments:
    """`DocumentStore` in memory; `rows` is what the other doubles of the fence share."""

    rows: dict[DocumentKey, DocumentRow] = field(default_factory=dict)
    locks: dict[DocumentKey, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))

    async def assign(
        self,
        key: DocumentKey,
        origin: Origin,
        *,
        deleted: bool,
        attributes: Mapping[str, Any],
        redriven: bool = False,
        base: int | None = None,
    ) -> Versioned:
        async with self.locks[key]:
            row = self.rows.setdefault(key, DocumentRow())
            place = (origin.topic_id, origin.partition)
            applied = row.origins.get(place)
            if applied is not None and origin.offset == applied.offset and not applied.rejected:
                return Versioned(version=applied.version, outcome="again", origins=origins_of(row))
            older = applied is not None and origin.offset < applied.offset
            if redriven and (older or (applied.version if applied else 0) != row.latest_version):
                return Versioned(version=row.latest_version, outcome="overtaken")
            if applied is not None and older:
                return Versioned(version=applied.version, outcome="redelivered")
            if base is not None and base != row.latest_version:
                return Versioned(version=row.latest_version, outcome="moved")
            base_ms = row.accepted_ms if base is not None else None
            row.latest_version += 1
            row.accepted_ms = time.time_ns() // 1_000_000
            row.deleted = deleted
            if deleted:
                row.deleted_version = row.latest_version
            row.attributes = dict(attributes)
            row.origins[place] = Applied(offset=origin.offset, version=row.latest_version, base_ms=base_ms)
            row.status_version = row.warnings_version = row.latest_version
            row.warnings, row.n_chunks = [], None
            status = "deleted" if deleted else "accepted"
            row.say(status, STATUS_RANKS[status], "intake")
            return Versioned(version=row.latest_version, outcome="fresh", origins=origins_of(row))

    async def reject(self, key: DocumentKey, origin: Origin, *, reason: str, message: str) -> int | None:
        async with self.locks[key]:
            row = self.rows.setdefault(key, DocumentRow())
            place = (origin.topic_id, origin.partition)
            applied = row.origins.get(place)
            if applied is None or origin.offset > applied.offset:
                row.origins[place] = Applied(offset=origin.offset, version=row.latest_version, rejected=True)
                row.say("failed", REJECTED_RANK, "intake", reason, message)
                return row.latest_version
            if origin.offset < applied.offset or applied.version != row.latest_version:
                return None
            if applied.rejected:
                row.say("failed", REJECTED_RANK, "intake", reason, message)
                return row.latest_version
            if row.status_rank > STATUS_RANKS["failed"]:
                return None
            row.say("failed", STATUS_RANKS["failed"], "intake", reason, message)
            return row.latest_version

    @asynccontextmanager
    async def holding_latest(self, key: DocumentKey, version: int) -> AsyncIterator[bool]:
        async with self.locks[key]:
            row = self.rows.get(key)
            yield row is None or row.latest_version <= version

    async def latest(self, key: DocumentKey) -> Latest | None:
        row = self.rows.get(key)
        if row is None or not row.latest_version:
            return None
        given = [
            Origin(topic=INGEST.name, topic_id=topic_id, partition=partition, offset=applied.offset)
            for (topic_id, partition), applied in row.origins.items()
            if applied.version == row.latest_version and not applied.rejected
        ]
        return Latest(
            version=row.latest_version,
            deleted=row.deleted,
            accepted_ms=row.accepted_ms,
            submission=given[0] if given else None,
            origins=origins_of(row),
        )

    async def learn(
        self,
        key: DocumentKey,
        version: int,
        origins: Origins,
        *,
        deleted: bool,
        attributes: Mapping[str, Any],
        at_ms: int,
    ) -> bool:
        async with self.locks[key]:
            row = self.rows.setdefault(key, DocumentRow())
            known = any(a.version == row.latest_version and not a.rejected for a in row.origins.values())
            if row.latest_version > version or (row.latest_version == version and (known or not origins)):
                return False
            row.latest_version, row.deleted, row.accepted_ms, row.attributes = version, deleted, at_ms, dict(attributes)
            if deleted:
                row.deleted_version = version
            for place, applied in origins.items():
                topic_id, _, partition = place.rpartition("/")
                row.origins[topic_id, int(partition)] = Applied(
                    offset=applied["offset"],
                    version=applied["version"],
                    rejected=applied.get("rejected", False),
                    base_ms=applied.get("base_ms"),
                )
            row.status_version = row.warnings_version = version
            row.warnings, row.n_chunks = [], None
            status = "deleted" if deleted else "accepted"
            row.say(status, STATUS_RANKS[status], "intake")
            return True

    async def latest_version(self, key: DocumentKey) -> int | None:
        row = self.rows.get(key)
        return None if row is None else row.latest_version


def origins_of(row: DocumentRow) -> Origins:
    found: dict[str, ports.Applied] = {}
    for (topic_id, partition), applied in row.origins.items():
        found[f"{topic_id}/{partition}"] = {"offset": applied.offset, "version": applied.version}
        if applied.rejected:
            found[f"{topic_id}/{partition}"]["rejected"] = True
        if applied.base_ms is not None:
            found[f"{topic_id}/{partition}"]["base_ms"] = applied.base_ms
    return found
