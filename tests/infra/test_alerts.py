"""Alert rules speak of metrics that there are, in PromQL that parses, and name a runbook that there is."""

import re
from typing import Any

import promql_parser
import pytest
import yaml

from backbone.telemetry import METRICS
from headrace.generated import ROOT

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((ROOT / "infra/observability/alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
LABELS = {family.name: set(metric._labelnames) for metric in METRICS for family in metric.describe()}
PROCESS = {"process_start_time_seconds"}
"""Prometheus' own."""
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
NAMES = {
    family.name + suffix: family.name
    for metric in METRICS
    for family in metric.describe()
    for suffix in SUFFIXES[family.type]
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_is_whole(rule: dict[str, Any]) -> None:
    promql_parser.parse(rule["expr"])

    used = set(re.findall(r"\b(?:headrace|process)_\w+", rule["expr"]))
    assert used and used <= NAMES.keys() | PROCESS
    known = {label for name in used if name in NAMES for label in LABELS[NAMES[name]]} | {"instance", "job", "le"}
    by = {label.strip() for labels in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in labels.split(",")}
    matched = set(re.findall(r"[{,]\s*(\w+)\s*(?:=|!=|=~|!~)", rule["expr"]))
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert by | matched <= known
    if by:
        assert shown <= by
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert (ROOT / rule["annotations"]["runbook"]).is_file()


def test_no_two_rules_have_one_name() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) >= 10


@pytest.mark.parametrize("broken", ["sum by (headrace_lag_records", "rate(headrace_lag_records[5x])"])
def test_the_parser_refuses_what_prometheus_would(broken: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        promql_parser.parse(broken)
