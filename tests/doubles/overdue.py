"""Overdue versions, the ingest lane and who is told, in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from schemas.ids import DocumentKey
from streams.operator.observer import Reissued
from streams.operator.overdue import Coverage, Overdue
from tests.doubles.clock import FrozenClock

DAY_S = 86_400.0


@dataclass(kw_only=True)
class Known:
    """A document as the tables know it.

    `live` is (version, deleted), `left` says that chunks are there; `given_up` that this generation alone failed.
    """

    latest: int = 1
    deleted: bool = False
    failed: bool = False
    given_up: bool = False
    live: tuple[int, bool] | None = None
    left: bool = False
    accepted_ms: int = 0

    @property
    def lost(self) -> bool:
        return self.failed or self.given_up

    @property
    def served(self) -> bool:
        if self.live is None and self.deleted:
            return not self.left
        if self.live is None or self.live < (self.latest, False):
            return False
        is_same = self.live[0] > self.latest or self.live[1] == self.deleted
        return is_same and not (self.deleted and self.left)


@dataclass(kw_only=True)
class MemoryOverdue:
    """`OverdueStore` over `documents`; `taken` has (version, n, at ms) by key."""

    clock: FrozenClock
    documents: dict[DocumentKey, Known] = field(default_factory=dict)
    taken: dict[DocumentKey, tuple[int, int, int]] = field(default_factory=dict)

    async def take(self, *, older_than_s: float, pause_s: float, limit: int) -> Sequence[Overdue]:
        now = self.clock.now_ms()
        found = []
        for key, known in sorted(self.documents.items(), key=lambda item: item[1].accepted_ms):
            version, n, at = self.taken.get(key, (0, 0, 0))
            n = n if version == known.latest else 0
            paused = n > 0 and now - at < 1000 * min(DAY_S, pause_s * 2 ** (n - 1))
            young = known.accepted_ms >= now - older_than_s * 1000
            if known.latest > 0 and not (paused or young or known.lost or known.served):
                found.append(Overdue(key=key, version=known.latest, n=n + 1))
        for each in found[:limit]:
            self.taken[each.key] = (each.version, each.n, now)
        return found[:limit]

    async def settle(self) -> int:
        known = {key: self.documents[key] for key in self.taken}
        ended = [k for k, d in known.items() if d.latest > self.taken[k][0] or d.lost or d.served]
        n_served = sum(known[k].latest == self.taken[k][0] and known[k].served for k in ended)
        for key in ended:
            del self.taken[key]
        return n_served

    async def coverage(self) -> Coverage:
        accepted = [each for each in self.documents.values() if each.latest > 0]
        covered = [each.live is not None and each.live[0] == each.latest for each in accepted]
        failed = [each.lost and not done for each, done in zip(accepted, covered, strict=True)]
        return Coverage(
            n_documents=len(covered), n_covered=sum(covered), n_failed=sum(failed), n_overdue=len(self.taken)
        )


@dataclass(kw_only=True)
class MemoryHop:
    """`Hop` whose topic has one partition."""

    end: int = 0
    done: int = 0

    async def ends(self) -> Mapping[int, int]:
        return {0: self.end}

    async def handled(self) -> Mapping[int, int]:
        return {0: self.done}


@dataclass(kw_only=True)
class MemoryDriftObserver:
    """`DriftObserver` that keeps what it is told."""

    kinds: dict[str, int] = field(default_factory=dict)
    n_reissued: dict[str, int] = field(default_factory=dict)
    n_mended: int = 0
    coverage: Coverage | None = None

    def found(self, kinds: Mapping[str, int]) -> None:
        for kind, n in kinds.items():
            self.kinds[kind] = self.kinds.get(kind, 0) + n

    def reissued(self, why: Reissued, n: int) -> None:
        self.n_reissued[why] = self.n_reissued.get(why, 0) + n

    def mended(self, n: int) -> None:
        self.n_mended += n

    def covered(self, generation: str, coverage: Coverage) -> None:
        self.coverage = coverage

    def forgotten(self, generation: str) -> None:
        self.coverage = None
