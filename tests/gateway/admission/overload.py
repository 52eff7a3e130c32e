"""A gateway's admission before workers that take their time, on a clock of its own: what callers meet in a rush."""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from gateway.admission import Admission, Who
from gateway.admission.admission import LOOK_S
from gateway.admission.capacity import Capacity
from gateway.admission.promises import MemoryPromises
from gateway.admission.watch import OwnWatch
from gateway.problems import Problem


@dataclass
class Clock:
    """Seconds that a test sets."""

    s: float = 1_000.0

    def __call__(self) -> float:
        return self.s


def now(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for something")


@dataclass(kw_only=True)
class Caller:
    """Somebody with one question. `patience`: how often it comes again."""

    name: str
    tenant: str
    patience: int
    is_late_s: float
    refusals: int = 0
    promised: bool = False


@dataclass(kw_only=True)
class Rush:
    """Workers that answer `n_workers` questions at a time, each in about `service_s`, first come first served.

    Attributes:
        admitted_after: how many callers were let in, by how often they were refused before.
        returned: how many came again after the stated time, by how often they were refused before.
        waits_s: from being let in to the answer, with the time of being let in.
    """

    n_workers: int = 2
    service_s: float = 0.025
    tenant_max: int = 128
    most: int = 256
    seed: int = 1
    clock: Clock = field(default_factory=Clock)
    admitted_after: Counter[int] = field(default_factory=Counter)
    returned: Counter[int] = field(default_factory=Counter)
    promised: Counter[int] = field(default_factory=Counter)
    kept: Counter[int] = field(default_factory=Counter)
    let_in_of: Counter[str] = field(default_factory=Counter)
    first_tries_of: Counter[str] = field(default_factory=Counter)
    first_let_in_of: Counter[str] = field(default_factory=Counter)
    ended: int = 0
    waits_s: list[tuple[float, float]] = field(default_factory=list)
    told_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.promises = MemoryPromises(clock=self.clock)
        self.capacity = Capacity(most=self.most)
        self.admission = Admission(
            kind="search",
            tenant_max=self.tenant_max,
            capacity=self.capacity,
            watch=OwnWatch(),
            promises=self.promises,
            clock=self.clock,
        )
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._queue: list[tuple[str, float]] = []
        self._n_busy = 0
        self._at(0, self._look)

    @property
    def drain_per_s(self) -> float:
        """What the workers can do."""
        return self.n_workers / self.service_s

    def callers(self, per_s: float, for_s: float, *, tenant: str = "acme", patience: int = 0, names: int = 0) -> None:
        """Let callers come, at random times; `names`: how many different questions there are, 0: all differ."""
        at_s = 0.0
        for n in itertools.count():
            at_s += self.random.expovariate(per_s)
            if at_s >= for_s:
                return
            name = f"{tenant}{n % names if names else n}"
            late_s = self.random.expovariate(1 / 0.02)
            caller = Caller(name=name, tenant=tenant, patience=patience, is_late_s=late_s)
            self._at(at_s, partial(self._come, caller))

    def run(self, for_s: float) -> None:
        """Let time pass."""
        until_s = self.clock.s + for_s
        while self._events and self._events[0][0] <= until_s:
            self.clock.s, _, happen = heapq.heappop(self._events)
            happen()
        self.clock.s = until_s

    def forget(self) -> "Rush":
        """Count from here on."""
        for counter in (self.admitted_after, self.returned, self.promised, self.kept, self.let_in_of):
            counter.clear()
        self.first_tries_of.clear()
        self.first_let_in_of.clear()
        self.waits_s.clear()
        self.told_s.clear()
        self.ended = 0
        return self

    def _at(self, in_s: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.clock.s + in_s, next(self._order), happen))

    def _look(self) -> None:
        now(self.admission.look())
        self._at(LOOK_S, self._look)

    def _come(self, caller: Caller) -> None:
        id = str(next(self._order))
        if caller.refusals:
            self.returned[caller.refusals] += 1
            self.promised[caller.refusals] += caller.promised
        else:
            self.first_tries_of[caller.tenant] += 1
        try:
            now(self.admission.admit(caller.tenant, id, Who.of(caller.tenant, caller.name, None)))
        except Problem as refused:
            caller.refusals += 1
            caller.promised = refused.more["promised"]
            after_s = float(dict(refused.headers or {})["Retry-After"])
            self.told_s.append(after_s)
            if caller.refusals <= caller.patience:
                self._at(after_s + caller.is_late_s, partial(self._come, caller))
            return
        self.admitted_after[caller.refusals] += 1
        self.kept[caller.refusals] += caller.promised
        self.let_in_of[caller.tenant] += 1
        self.first_let_in_of[caller.tenant] += caller.refusals == 0
        self._queue.append((id, self.clock.s))
        self._work()

    def _work(self) -> None:
        while self._n_busy < self.n_workers and self._queue:
            id, since_s = self._queue.pop(0)
            self._n_busy += 1
            # About as uneven as real questions are.
            seconds = self.random.lognormvariate(0, 0.5) * self.service_s / 1.133
            self._at(seconds, partial(self._done, id, since_s))

    def _done(self, id: str, since_s: float) -> None:
        self._n_busy -= 1
        self.ended += 1
        self.admission.ended(id)
        self.waits_s.append((since_s, self.clock.s - since_s))
        self._work()


def p95(waits_s: list[tuple[float, float]]) -> float:
    """The 95th percentile of the waits."""
    ordered = sorted(wait_s for _, wait_s in waits_s)
    return ordered[int(0.95 * len(ordered))]
