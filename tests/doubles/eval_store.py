"""Evals in memory."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.ids import QueryId
from streams.ports import Eval, EvalPart


@dataclass(kw_only=True)
class MemoryEvals:
    """`EvalStore` in memory."""

    rows: dict[QueryId, tuple[str, Eval]] = field(default_factory=dict)

    async def merge(self, query: QueryId, tenant: str, part: EvalPart, fields: Mapping[str, Any]) -> Eval | None:
        owner, row = self.rows.get(query, (tenant, Eval(revision=0)))
        if owner != tenant:
            return None
        held = getattr(row, part)
        changed = held is None or (
            fields["feedback_ms"] > held["feedback_ms"] if part == "feedback" else fields != held
        )
        if changed:
            row = replace(row, revision=row.revision + 1, **{part: dict(fields)})
            self.rows[query] = tenant, row
        return row

    async def read(self, query: QueryId, tenant: str) -> Eval | None:
        owner, row = self.rows.get(query, ("", None))
        return row if owner == tenant else None
