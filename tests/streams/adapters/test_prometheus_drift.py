"""Metrics of differences between log and tables."""

import re

from prometheus_client import REGISTRY

from headrace.generated import ROOT
from streams.adapters.prometheus_drift import PrometheusDrift
from streams.operator.overdue import Coverage


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_what_is_found_and_done_is_counted() -> None:
    counted = {
        ("headrace_drift_found_total", "kind", "orphaned"): 2.0,
        ("headrace_reissues_total", "why", "repair"): 3.0,
        ("headrace_reissues_total", "why", "overdue"): 4.0,
    }
    before = {each: sample(each[0], **{each[1]: each[2]}) for each in counted}
    mended = sample("headrace_overdue_mended_total")
    drift = PrometheusDrift()

    drift.found({"orphaned": 2})
    drift.reissued("repair", 3)
    drift.reissued("overdue", 4)
    drift.mended(5)

    assert {each: sample(each[0], **{each[1]: each[2]}) - before[each] for each in counted} == counted
    assert sample("headrace_overdue_mended_total") - mended == 5


def test_documents_of_a_generation_are_covered_failed_or_missing() -> None:
    PrometheusDrift().covered("g9", Coverage(n_documents=10, n_covered=6, n_failed=1, n_overdue=2))

    shown = [
        sample("headrace_coverage_documents", generation="g9", state=state)
        for state in ("covered", "failed", "missing", "overdue")
    ]
    assert shown == [6, 1, 3, 2]


def test_a_generation_that_is_followed_no_more_shows_nothing() -> None:
    drift = PrometheusDrift()
    for name in ("g8", "g88"):
        drift.covered(name, Coverage(n_documents=10, n_covered=6, n_failed=1))

    drift.forgotten("g8")

    get = REGISTRY.get_sample_value
    assert get("headrace_coverage_documents", {"generation": "g8", "state": "covered"}) is None
    assert get("headrace_coverage_documents", {"generation": "g88", "state": "covered"}) == 6


def test_every_kind_of_drift_and_every_reissue_shows_from_the_start() -> None:
    PrometheusDrift()

    shown = {
        sample.labels["kind"]
        for metric in REGISTRY.collect()
        if metric.name == "headrace_drift_found"
        for sample in metric.samples
        if sample.name == "headrace_drift_found_total"
    }
    runbook = (ROOT / "docs/runbooks/drift.md").read_text()
    first_cells = [line.split("|")[1] for line in runbook.splitlines() if line.startswith("| `")]
    documented = {name for cell in first_cells for name in re.findall(r"`([a-z_]+)`", cell)}
    assert shown == {name for name in documented if not name.startswith("headrace_")}
    assert all(
        REGISTRY.get_sample_value("headrace_reissues_total", {"why": why}) is not None for why in ("repair", "overdue")
    )
