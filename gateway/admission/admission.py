"""Decides whether a caller is let in, from counts in memory; a refusal costs no look into Postgres.

See docs/adr for the scheme, docs/runbooks/overload.md for what to do about it.
"""

import asyncio
import hashlib
import logging
import math
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from backbone.telemetry import ADMISSION_CAP, ADMISSION_DRAIN, ADMISSIONS, PROMISED_PLACES, PROMISES
from gateway.admission.capacity import Capacity, Crowd, rate
from gateway.admission.promises import MAX_WAIT_S, Promises
from gateway.admission.watch import Own, Watch
from gateway.problems import Problem

LOOK_S: Final = 0.2
IDLE_LOOK_S: Final = 1.0
_IDLE_S: Final = 5.0
_FEW: Final = 3
_MIN_PER_S: Final = 0.05
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Who:
    """A caller, so that it is known again when it returns.

    Attributes:
        name: by which it is known.
        alone: nobody else has this name; without an Idempotency-Key, all who send the same body have the same.
    """

    name: str
    alone: bool

    @classmethod
    def of(cls, tenant: str, body: str, key: str | None) -> "Who":
        """Name a caller by its Idempotency-Key, else by what it asks."""
        named = f"body {body}" if key is None else f"key {key}"
        return cls(f"{tenant}:{hashlib.sha256(named.encode()).hexdigest()}", alone=key is not None)


@dataclass(kw_only=True)
class Admission:
    """Caps what is open at once, of each tenant and of all, and says honestly when to come again.

    Attributes:
        kind: what is let in: `question` or `search`.
        tenant_max: most that one tenant may have open.
        capacity: says how many may be open of all tenants together.
        watch: sees what is open and what has ended.
        promises: places of those who were turned away.
        clock: seconds, monotonic.
    """

    kind: str
    tenant_max: int
    capacity: Capacity
    watch: Watch
    promises: Promises
    clock: Callable[[], float] = time.monotonic
    _own: dict[str, Own] = field(default_factory=dict, init=False)
    _own_of: Counter[str] = field(default_factory=Counter, init=False)
    _others_of: Counter[str] = field(default_factory=Counter, init=False)
    _n_others: int = field(default=0, init=False)
    _ended_per_s_of: dict[str, float] = field(default_factory=dict, init=False)
    _waiting: int = field(default=0, init=False)
    _limited: bool = field(default=False, init=False)
    _trough: int = field(default=0, init=False)
    _peak: int = field(default=0, init=False)
    _busy_s: float = field(default=float("-inf"), init=False)

    async def admit(self, tenant: str, id: str, who: Who) -> None:
        """Let a question in, or refuse it; who is let in must tell of the end by `ended`.

        Raises:
            Problem: 429, with `Retry-After`; at least nine of ten callers that come again then are let in.
        """
        self._busy_s = self.clock()
        wait_s, fits = None, self._refusal(tenant, promised=False) is None
        if self._waiting or not fits:
            wait_s = await self.promises.redeem(tenant, who.name, early=fits and who.alone)
        promised = wait_s == 0
        reason = self._refusal(tenant, promised=promised)
        if reason is None:
            self._let_in(tenant, id)
            ADMISSIONS.labels(self.kind, "promised" if promised else "admitted").inc()
            if promised:
                PROMISES.labels("kept").inc()
            return
        ADMISSIONS.labels(self.kind, reason).inc()
        self._limited |= reason == "all"
        if promised:
            PROMISES.labels("broken").inc()
        if wait_s is None or promised or not who.alone:
            wait_s = await self._book(tenant, who, reason, again=promised)
        raise self._problem(reason, wait_s)

    @asynccontextmanager
    async def admitted(self, tenant: str, id: str, who: Who) -> AsyncIterator[None]:
        """As `admit`, around the work of accepting it; where that fails, it has ended."""
        await self.admit(tenant, id, who)
        try:
            yield
        except BaseException:
            self.ended(id)
            raise

    def ended(self, id: str) -> None:
        """Note that what was let in has ended, or was not accepted after all. Idempotent."""
        own = self._own.pop(id, None)
        if own is not None:
            self._own_of[own.tenant] -= 1
            self._note_crowd()
            self.watch.ended(own, self.clock())

    async def run(self) -> None:
        """Look again and again until cancelled; where that fails, what was seen last holds."""
        was_away = False
        while True:
            await asyncio.sleep(LOOK_S if self.clock() - self._busy_s < _IDLE_S else IDLE_LOOK_S)
            try:
                await self.look()
                was_away = False
            except Problem as error:
                if not was_away:
                    _logger.warning("open questions cannot be counted: %s", error.detail)
                was_away = True

    async def look(self) -> None:
        """Count what is open, and learn from what has ended.

        Raises:
            Problem: 503, Postgres is away.
        """
        own = dict(self._own)
        own_of = Counter(each.tenant for each in own.values())
        found = await self.watch.look(own, self.clock())
        for id in found.closed:
            self.ended(id)
        self._others_of = Counter(found.open_of) - own_of
        self._n_others = self._others_of.total()
        per_s, n_ended = rate(found.ended), len(found.ended)
        self._ended_per_s_of = {
            tenant: per_s * n / n_ended for tenant, n in Counter(each.tenant for each in found.ended).items()
        }
        self._waiting = await self.promises.waiting()
        self._note_crowd()
        crowd = Crowd(trough=self._trough, peak=self._peak)
        self.capacity.observe(self.clock(), crowd, found.ended, limited=self._limited, waiting=self._waiting > 0)
        self._limited, self._trough, self._peak = False, self._n_open, self._n_open
        ADMISSION_CAP.labels(self.kind).set(self.capacity.cap)
        ADMISSION_DRAIN.labels(self.kind).set(self.capacity.drain_per_s)
        PROMISED_PLACES.labels(self.kind).set(self._waiting)

    def _refusal(self, tenant: str, *, promised: bool) -> str | None:
        """Return which cap refuses a caller: `tenant` or `all`; None where it may come in."""
        mine, total = self._own_of[tenant] + self._others_of[tenant], self._n_open
        cap, kept = self.capacity.cap, self.capacity.kept if self._waiting and not promised else 0
        if mine >= self.tenant_max - min(kept, self.tenant_max // 2):
            return "tenant"
        few = max(_FEW, cap // 4)
        # A tenant that holds few is let in even where others fill the house; so is who was promised a place.
        limit = min(cap + few, self.capacity.most) if mine < few or promised else cap - kept
        return "all" if total >= limit else None

    def _let_in(self, tenant: str, id: str) -> None:
        if id in self._own:  # the same request twice at the same time
            return
        self._own[id] = Own(tenant=tenant, since_s=self.clock())
        self._own_of[tenant] += 1
        self._note_crowd()

    @property
    def _n_open(self) -> int:
        return len(self._own) + self._n_others

    def _note_crowd(self) -> None:
        self._trough, self._peak = min(self._trough, self._n_open), max(self._peak, self._n_open)

    async def _book(self, tenant: str, who: Who, reason: str, *, again: bool) -> float | None:
        per_s = self.capacity.drain_per_s
        if reason == "tenant":
            per_s = min(per_s, self._ended_per_s_of.get(tenant, per_s))
        wait_s = await self.promises.book(tenant, who.name, per_s=max(per_s, _MIN_PER_S), again=again)
        if wait_s is None:
            PROMISES.labels("none").inc()
        else:
            self._waiting = max(1, self._waiting)
        return wait_s

    def _problem(self, reason: str, wait_s: float | None) -> Problem:
        whose = "your tenant has" if reason == "tenant" else "there are"
        limit = self.tenant_max if reason == "tenant" else self.capacity.cap
        told_s = MAX_WAIT_S if wait_s is None else wait_s
        after_s = max(1, math.ceil(told_s))
        place = "" if wait_s is None else "; a place is kept for you then"
        things = "searches" if self.kind == "search" else "questions"
        detail = f"{whose} {limit} {things} without an end already; send this one again in {after_s} s{place}"
        return Problem(
            429,
            f"too_many_{things}",
            detail,
            headers={"Retry-After": str(after_s)},
            retry_after_ms=math.ceil(told_s * 1000),
            promised=wait_s is not None,
        )
