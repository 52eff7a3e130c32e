"""Gates as the gateway sees them, in memory."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import uuid_utils

_PRIVATE: Final = ("sets", "tenant")


@dataclass(kw_only=True)
class MemoryGateRows:
    """`GateRows`; tests say in `rows`, the oldest first, what became of one.

    After each look at the last one it changes as the next of `coming` says."""

    known: set[str] = field(default_factory=lambda: {"g1", "g2"})
    rows: list[dict[str, Any]] = field(default_factory=list)
    coming: list[dict[str, Any]] = field(default_factory=list)

    async def generations(self) -> Collection[str]:
        return self.known

    async def ask(
        self, *, candidate: str, base: str, tenant: str, margin: float, sets: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        if self._open(candidate):
            return None
        row = {"candidate": candidate, "base": base, "tenant": tenant, "margin": margin, "sets": dict(sets)}
        row |= {"id": str(uuid_utils.uuid7()), "state": "asked", "why": None, "progress": {}, "verdict": None}
        row |= {"passed": False, "reason": None, "report": None, "asked_at": datetime.now(UTC), "finished_at": None}
        self.rows.append(row)
        return _shown(row)

    async def latest(self, candidate: str) -> Mapping[str, Any] | None:
        found = next((row for row in reversed(self.rows) if row["candidate"] == candidate), None)
        if found is None:
            return None
        shown = _shown(found)
        if self.coming:
            found |= self.coming.pop(0)
        return shown

    async def judged(self, candidate: str, base: str) -> Mapping[str, Any] | None:
        for row in reversed(self.rows):
            if (row["candidate"], row["base"], row["state"]) == (candidate, base, "finished"):
                told = {name: row[name] for name in ("id", "verdict", "passed", "reason", "margin")}
                return told | {"age_s": (datetime.now(UTC) - row["finished_at"]).total_seconds()}
        return None

    async def cancel(self, candidate: str) -> bool:
        opened = self._open(candidate)
        for row in opened:
            row |= {"state": "cancelled", "finished_at": datetime.now(UTC)}
        return bool(opened)

    def _open(self, candidate: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["candidate"] == candidate and row["state"] in ("asked", "running")]


def _shown(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in row.items() if name not in _PRIVATE}
