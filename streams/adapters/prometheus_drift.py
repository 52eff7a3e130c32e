"""Tells Prometheus what verifications and the search for overdue versions find and do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from backbone import telemetry
from streams.operator.overdue import Coverage


@dataclass(frozen=True, kw_only=True)
class PrometheusDrift:
    """`DriftObserver` on the metrics of this process, for one generation."""

    generation: str

    def found(self, kinds: Mapping[str, int]) -> None:
        """See `DriftObserver.found`."""
        for kind, n in kinds.items():
            telemetry.DRIFT_FOUND.labels(kind).inc(n)

    def reissued(self, why: Literal["repair", "overdue"], n: int) -> None:
        """See `DriftObserver.reissued`."""
        telemetry.REISSUES.labels(why).inc(n)

    def mended(self, n: int) -> None:
        """See `DriftObserver.mended`."""
        telemetry.OVERDUE_MENDED.inc(n)

    def covered(self, coverage: Coverage) -> None:
        """See `DriftObserver.covered`."""
        missing = coverage.n_documents - coverage.n_covered - coverage.n_failed
        for state, n in (("covered", coverage.n_covered), ("failed", coverage.n_failed), ("missing", missing)):
            telemetry.COVERAGE.labels(self.generation, state).set(n)
