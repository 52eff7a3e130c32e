"""Versions that were accepted long ago and are still not served: the tables alone show them, and they are re-issued.

What merely waits its turn is left alone, however long that takes: only what was accepted before the last walk through
the ingest lane began can be overdue.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from schemas.ids import DocumentKey
from streams.operator.observer import DriftObserver
from streams.operator.reissue import reissue
from streams.ports import Clock
from streams.runtime.runner import Sender

_log = structlog.get_logger(__name__)


class Hop(Protocol):
    """One stage of the ingest lane. Methods raise `Transient` when Kafka is away."""

    async def ends(self) -> Mapping[int, int]:
        """Return, per partition of its topic, the offset that the next record will get."""
        ...

    async def handled(self) -> Mapping[int, int]:
        """Return, per partition, the offset up to which the stage has handled all."""
        ...


@dataclass(kw_only=True)
class Walk:
    """Follows what stood in the ingest lane at one time from stage to stage, then begins again.

    Attributes:
        hops: the stages, in the order of the flow.
        clock: says when a walk began.
    """

    hops: Sequence[Hop]
    clock: Clock
    _at: int = field(default=0, init=False)
    _ends: Mapping[int, int] | None = field(default=None, init=False)
    _began_ms: int = field(default=0, init=False)
    _passed_ms: int | None = field(default=None, init=False)

    async def passed_ms(self) -> int | None:
        """Return a time, ms since 1970: what was submitted before it waits for no stage. None: not known yet.

        Each call goes as far as the stages have come; at most once through the whole lane.

        Raises:
            Transient: Kafka is away; the walk goes on later.
        """
        while self._at < len(self.hops):
            hop = self.hops[self._at]
            if self._ends is None:
                if self._at == 0:
                    self._began_ms = self.clock.now_ms()
                self._ends = await hop.ends()
            handled = await hop.handled()
            if any(handled.get(partition, 0) < end for partition, end in self._ends.items()):
                return self._passed_ms
            # whatever the stage made of it stands in the next topic by now
            self._at, self._ends = self._at + 1, None
        self._at, self._passed_ms = 0, self._began_ms
        return self._passed_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """How many documents there are, how many of them are served in their latest version, and how many of the others
    failed; and how many versions were re-issued for they were overdue, and are not known to be served yet."""

    n_documents: int
    n_covered: int
    n_failed: int
    n_overdue: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Overdue:
    """A version that is overdue. `n`: how often it has been re-issued, this time included."""

    key: DocumentKey
    version: int
    n: int


class OverdueStore(Protocol):
    """The tables of one generation. Methods raise `Transient` when they are away."""

    async def take(self, *, older_than_s: float, pause_s: float, limit: int) -> Sequence[Overdue]:
        """Return versions that are to be re-issued, and count them as such; those accepted first come first.

        A version is overdue when it is the latest, was accepted more than `older_than_s` ago, did not fail, and is not
        live; or when it deletes and something of the document is still live. It is taken again `pause_s` later, then
        after twice as long each time, and at least once a day.
        """
        ...

    async def settle(self) -> int:
        """Forget those taken that are served, failed or have a newer version; return how many are served."""
        ...

    async def coverage(self) -> Coverage:
        """Return how far the generation has come."""
        ...


@dataclass(frozen=True, kw_only=True)
class MendOverdue:
    """Has what is overdue done again.

    Attributes:
        generation: whose.
        documents: the tables.
        walk: says what waits for no stage.
        sender: takes re-issues.
        clock: of the walk.
        observer: is told of it.
        after_s: how long after its acceptance a version is overdue, s, and the pause after its first re-issue.
        at_once_max: re-issues of one round.
    """

    generation: str
    documents: OverdueStore
    walk: Walk
    sender: Sender
    clock: Clock
    observer: DriftObserver
    after_s: float
    at_once_max: int

    async def round(self) -> None:
        """Look once, and re-issue what is due.

        A worker that dies between taking and sending delays those by one pause.

        Raises:
            Transient: Kafka or Postgres is away.
        """
        self.observer.mended(await self.documents.settle())
        self.observer.covered(self.generation, await self.documents.coverage())
        passed_ms = await self.walk.passed_ms()
        if passed_ms is None:
            return
        older_than_s = max(self.after_s, (self.clock.now_ms() - passed_ms) / 1000)
        overdue = await self.documents.take(older_than_s=older_than_s, pause_s=self.after_s, limit=self.at_once_max)
        await reissue(self.sender, {each.key: each.version for each in overdue})
        self.observer.reissued("overdue", len(overdue))
        for each in overdue:
            _log.warning(
                "overdue_version_reissued",
                tenant=each.key.tenant,
                document=each.key.document,
                version=each.version,
                times=each.n,
            )
