"""Tells Prometheus what verifications and the search for overdue versions find and do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from backbone import telemetry
from streams.operator.drift import KINDS
from streams.operator.observer import Reissued
from streams.operator.overdue import Coverage
from streams.operator.views import KINDS as VIEW_KINDS


@dataclass(frozen=True, kw_only=True)
class PrometheusDrift:
    """`DriftObserver` on the metrics of this process."""

    def __post_init__(self) -> None:
        # a counter that first shows at 1 does not show that it rose
        for kind in (*KINDS, *VIEW_KINDS):
            telemetry.DRIFT_FOUND.labels(kind)
        for why in get_args(Reissued):
            telemetry.REISSUES.labels(why)

    def found(self, kinds: Mapping[str, int]) -> None:
        """See `DriftObserver.found`."""
        for kind, n in kinds.items():
            telemetry.DRIFT_FOUND.labels(kind).inc(n)

    def reissued(self, why: Reissued, n: int) -> None:
        """See `DriftObserver.reissued`."""
        telemetry.REISSUES.labels(why).inc(n)

    def mended(self, n: int) -> None:
        """See `DriftObserver.mended`."""
        telemetry.OVERDUE_MENDED.inc(n)

    def covered(self, generation: str, coverage: Coverage) -> None:
        """See `DriftObserver.covered`."""
        missing = coverage.n_documents - coverage.n_covered - coverage.n_failed
        states = {
            "covered": coverage.n_covered,
            "failed": coverage.n_failed,
            "missing": missing,
            "overdue": coverage.n_overdue,
        }
        for state, n in states.items():
            telemetry.COVERAGE.labels(generation, state).set(n)

    def forgotten(self, generation: str) -> None:
        """See `DriftObserver.forgotten`."""
        telemetry.COVERAGE.remove_by_labels({"generation": generation})
