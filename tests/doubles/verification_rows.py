"""Verifications as the gateway sees them, in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import uuid_utils


@dataclass(kw_only=True)
class MemoryVerificationRows:
    """`VerificationRows`; tests put findings into `rows`."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    covered: list[dict[str, Any]] = field(default_factory=list)

    async def ask(self, *, repair: bool) -> Mapping[str, Any]:
        id = str(uuid_utils.uuid7())
        times = {"asked_at": datetime.now(UTC), "finished_at": None}
        self.rows[id] = {"id": id, "repair": repair, "state": "asked", "why": None, "progress": {}} | times
        return self.rows[id]

    async def find(self, id: str, *, after: int, limit: int) -> Mapping[str, Any] | None:
        row = self.rows.get(id)
        return None if row is None else row | {"findings": row.get("findings", [])[after : after + limit]}

    async def coverage(self) -> Sequence[Mapping[str, Any]]:
        return self.covered
