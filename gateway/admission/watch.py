"""Sees what is open and what has ended: questions in the table of all gateways, searches in this process."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import asyncpg

from gateway.admission.capacity import SEEN, SEEN_S, Ended
from gateway.postgres import lend

_SETTLED_S: Final = 1.0
"""The row of a question that was let in stands in the table by then, or never will."""

_OPEN: Final = """
SELECT tenant, count(*) AS n FROM queries WHERE state IN ('pending', 'claimed') GROUP BY tenant
"""

# Errors are no work done: of a question that only ran out of time none of the workers may know.
_ENDED: Final = """
SELECT tenant, extract(epoch FROM now() - finished_at)::float8 AS ago_s,
       extract(epoch FROM finished_at - created_at)::float8 AS took_s
FROM queries
WHERE state = 'finished' AND outcome IN ('done', 'cancelled') AND finished_at > now() - make_interval(secs => $1)
ORDER BY finished_at DESC LIMIT $2
"""

_CLOSED: Final = """
SELECT own.id::text FROM unnest($1::uuid[]) AS own (id)
WHERE NOT EXISTS (SELECT 1 FROM queries WHERE queries.id = own.id AND state IN ('pending', 'claimed'))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """What this gateway let in. `since_s` is on the clock of the admission."""

    tenant: str
    since_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was seen.

    Attributes:
        open_of: how many are open, by tenant.
        ended: the last ones, as `Capacity.observe` wants them.
        closed: ids of this gateway's own that are open no more.
    """

    open_of: Mapping[str, int]
    ended: Sequence[Ended]
    closed: Sequence[str] = ()


class Watch(Protocol):
    """Sees what is open."""

    async def look(self, own: Mapping[str, Own], now_s: float) -> Look:
        """Look at all that is open.

        Args:
            own: what this gateway believes to be open of its own, by id.
            now_s: on the clock of the admission.

        Raises:
            Problem: 503, Postgres is away.
        """
        ...

    def ended(self, own: Own, now_s: float) -> None:
        """Note the end of one of this gateway's own."""
        ...


@dataclass(frozen=True, kw_only=True)
class TableWatch:
    """`Watch` on the questions of all gateways."""

    pool: "asyncpg.Pool[Any]"

    async def look(self, own: Mapping[str, Own], now_s: float) -> Look:
        """See `Watch`."""
        settled = [id for id, each in own.items() if each.since_s < now_s - _SETTLED_S]
        async with lend(self.pool) as connection:
            opened = await connection.fetch(_OPEN)
            ended = await connection.fetch(_ENDED, SEEN_S, SEEN)
            closed = await connection.fetch(_CLOSED, settled) if settled else []
        return Look(
            open_of={row["tenant"]: row["n"] for row in opened},
            ended=[Ended(**dict(row)) for row in ended],
            closed=[row["id"] for row in closed],
        )

    def ended(self, own: Own, now_s: float) -> None:
        """See `Watch`; the table tells it."""


@dataclass(frozen=True, kw_only=True)
class OwnWatch:
    """`Watch` on what this process alone lets in, such as searches, whose every end it hears of."""

    _ended: deque[tuple[Own, float]] = field(default_factory=lambda: deque(maxlen=SEEN), init=False)

    async def look(self, own: Mapping[str, Own], now_s: float) -> Look:
        """See `Watch`."""
        return Look(
            open_of=Counter(each.tenant for each in own.values()),
            ended=[
                Ended(tenant=each.tenant, ago_s=now_s - at_s, took_s=at_s - each.since_s)
                for each, at_s in self._ended
                if at_s > now_s - SEEN_S
            ],
        )

    def ended(self, own: Own, now_s: float) -> None:
        """See `Watch`."""
        self._ended.appendleft((own, now_s))
