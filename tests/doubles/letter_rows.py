"""The register of dead letters as callers of the gateway see it, in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from gateway.auth import Caller
from gateway.ports import LetterFilter, LetterRow
from tests.doubles.gateway import MemoryDocumentRows

Place = tuple[str, int, int]


@dataclass(kw_only=True)
class MemoryLetterRows:
    """`LetterRows` in memory; whose `readable` is False is read by no caller but an operator."""

    documents: MemoryDocumentRows
    rows: dict[Place, LetterRow] = field(default_factory=dict)

    def put(self, row: LetterRow) -> None:
        self.rows[row.stage, row.partition, row.offset] = row

    async def page(
        self, caller: Caller, wanted: LetterFilter, *, before: LetterRow | None, limit: int
    ) -> list[LetterRow]:
        found = [row for row in self.rows.values() if self._seen(caller, row) and _is_wanted(wanted, row)]
        found = [row for row in found if before is None or _order(row) < _order(before)]
        return sorted(found, key=_order, reverse=True)[:limit]

    async def find(self, caller: Caller, stage: str, partition: int, offset: int) -> LetterRow | None:
        row = self.rows.get((stage, partition, offset))
        return row if row is not None and self._seen(caller, row) else None

    async def decide(self, row: LetterRow, state: str, *, from_states: Sequence[str]) -> bool:
        held = self.rows[row.stage, row.partition, row.offset]
        if held.state not in from_states:
            return False
        self.put(replace(held, state=state, attributes={**held.attributes, "why": None}))
        return True

    async def decide_all(self, caller: Caller, wanted: LetterFilter, state: str, *, but_stages: Sequence[str]) -> int:
        chosen = [
            row
            for row in self.rows.values()
            if row.state == "open"
            and row.stage not in but_stages
            and self._seen(caller, row)
            and _is_wanted(wanted, row)
        ]
        for row in chosen:
            await self.decide(row, state, from_states=("open",))
        return len(chosen)

    def _seen(self, caller: Caller, row: LetterRow) -> bool:
        if caller.operator:
            return True
        tenant, document = row.attributes["tenant"], row.attributes["document"]
        if tenant != caller.tenant:
            return False
        held = self.documents.rows.get((tenant, document)) if document is not None else None
        return document is None or (held is not None and held.readable)


def _is_wanted(wanted: LetterFilter, row: LetterRow) -> bool:
    values = {"stage": row.stage, "state": row.state, **row.attributes}
    named = ("stage", "reason", "state", "tenant", "document")
    return (
        all(getattr(wanted, name) in (None, values[name]) for name in named)
        and (wanted.since is None or row.failed_at >= wanted.since)
        and (wanted.until is None or row.failed_at < wanted.until)
    )


def _order(row: LetterRow) -> tuple[object, ...]:
    return row.failed_at, row.stage, row.partition, row.offset
