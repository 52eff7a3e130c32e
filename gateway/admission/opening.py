"""Makes the two admissions of a gateway: of questions, which all gateways count together, and of its own searches."""

import time
from typing import Any, Final

import asyncpg

from backbone.settings import GatewaySettings
from backbone.telemetry import PROMISES
from backbone.valkey import Valkey
from gateway.admission.admission import Admission
from gateway.admission.capacity import Capacity
from gateway.admission.promises import MemoryPromises
from gateway.admission.shared_promises import SharedPromises
from gateway.admission.watch import OwnWatch, TableWatch, Watch

_SEARCHES_LEAST: Final = 8
"""Searches that are always let in: a search is short, and its caller asks for it by hand."""


def of_questions(settings: GatewaySettings, pool: "asyncpg.Pool[Any]", valkey: Valkey) -> Admission:
    """Make the admission of questions."""
    alone = MemoryPromises(clock=time.monotonic, on_lapsed=_lapsed)
    promises = SharedPromises(valkey=valkey, alone=alone, on_lapsed=_lapsed)
    capacity = Capacity(most=settings.questions_max, least=settings.questions_min)
    return _admission("question", settings, capacity, TableWatch(pool=pool), promises)


def of_searches(settings: GatewaySettings) -> Admission:
    """Make the admission of searches, which have no row: each gateway counts its own."""
    promises = MemoryPromises(clock=time.monotonic, on_lapsed=_lapsed)
    capacity = Capacity(most=settings.questions_max, least=max(_SEARCHES_LEAST, settings.questions_min))
    return _admission("search", settings, capacity, OwnWatch(), promises)


def _admission(
    kind: str, settings: GatewaySettings, capacity: Capacity, watch: Watch, promises: MemoryPromises | SharedPromises
) -> Admission:
    return Admission(
        kind=kind,
        tenant_max=settings.questions_per_tenant_max,
        capacity=capacity,
        watch=watch,
        promises=promises,
    )


def _lapsed(n: int) -> None:
    PROMISES.labels("lapsed").inc(n)
