"""Index generations as the gateway sees them, in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import uuid_utils


def _row(
    name: str, chunker: str, embedder: str, state: str, lexical: str = "tantivy", vectors: str = "pgvector"
) -> dict[str, Any]:
    made = {"name": name, "chunker": chunker, "embedder": embedder, "state": state, "why": None}
    made |= {"lexical": lexical, "vectors": vectors}
    return made | {"dim": None if state == "asked" else 4, "created_at": datetime.now(UTC), "shadow_share": 0.0}


@dataclass(kw_only=True)
class MemoryGenerationRows:
    """`GenerationRows`; `made`, `failed`, `move` and `settle` are what the operator stage does about what is wanted.

    Attributes:
        serving: that answers.
        rows: generations by name.
        asked: switches, the newest first.
        progresses: what tests say of the progress of generations.
    """

    serving: str = "g1"
    rows: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"g1": _row("g1", "structure", "test", "following")}
    )
    asked: list[dict[str, Any]] = field(default_factory=list)
    progresses: dict[str, dict[str, Any]] = field(default_factory=dict)

    async def all(self) -> Sequence[Mapping[str, Any]]:
        return [self._shown(row) for row in self.rows.values()]

    async def find(self, name: str) -> Mapping[str, Any] | None:
        return self._shown(self.rows[name]) if name in self.rows else None

    async def progress(self, name: str) -> Mapping[str, Any]:
        none = {"n_documents": 0, "n_covered": 0, "n_failed": 0, "documents_per_s": 0.0, "n_workers": 0, "n_ready": 0}
        return none | {"shadow": None} | self.progresses.get(name, {})

    async def ask(self, name: str, *, chunker: str, embedder: str, lexical: str, vectors: str) -> bool:
        if name in self.rows:
            return False
        self.rows[name] = _row(name, chunker, embedder, "asked", lexical, vectors)
        return True

    async def change(self, name: str, state: str, *, from_states: Sequence[str]) -> bool:
        row = self.rows.get(name)
        wanted = {each["generation"] for each in self.asked if each["state"] in ("asked", "moved")}
        if row is None or row["state"] not in from_states or name == self.serving or name in wanted:
            return False
        row |= {"state": state, "why": None}
        return True

    async def shadow(self, name: str, share: float) -> bool:
        row = self.rows.get(name)
        if row is None or (share and (row["state"] not in ("following", "paused") or name == self.serving)):
            return False
        row["shadow_share"] = share
        return True

    async def switch(
        self,
        name: str,
        *,
        previous: str,
        kind: Literal["switch", "rollback"],
        forced: bool,
        gate: str | None,
        asked_by: str,
    ) -> Mapping[str, Any] | None:
        if any(each["state"] in ("asked", "moved") for each in self.asked):
            return None
        row = {"id": str(uuid_utils.uuid7()), "generation": name, "previous": previous, "kind": kind, "forced": forced}
        row |= {"gate": gate, "state": "asked", "why": None, "asked_at": datetime.now(UTC)}
        row |= {"moved_at": None, "finished_at": None}
        self.asked.insert(0, row)
        return dict(row)

    async def switches(self, limit: int) -> Sequence[Mapping[str, Any]]:
        return [dict(each) for each in self.asked[:limit]]

    async def cancel_switch(self) -> bool:
        waiting = [each for each in self.asked if each["state"] == "asked"]
        for each in waiting:
            each |= {"state": "refused", "why": "cancelled", "finished_at": datetime.now(UTC)}
        return bool(waiting)

    def made(self, name: str, dim: int) -> None:
        """It is followed."""
        self.rows[name] |= {"state": "following", "dim": dim, "why": None}

    def failed(self, name: str, why: str) -> None:
        """It cannot be made."""
        self.rows[name] |= {"state": "failed", "why": why}

    def move(self) -> None:
        """Let the generation answer to which a switch waits."""
        [switch] = [each for each in self.asked if each["state"] == "asked"]
        self.serving = switch["generation"]
        switch |= {"state": "moved", "why": None, "moved_at": datetime.now(UTC)}

    def settle(self) -> None:
        """Finish the switch that has moved."""
        [switch] = [each for each in self.asked if each["state"] == "moved"]
        switch |= {"state": "done", "finished_at": datetime.now(UTC)}

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        return row | {"serving": row["name"] == self.serving}
