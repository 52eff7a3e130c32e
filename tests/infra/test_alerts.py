"""Alert rules speak of metrics that there are, in PromQL that parses, and name a runbook that there is."""

import re
import shutil
import subprocess
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
OWN = {"process_start_time_seconds", "up"}
"""Prometheus' own."""
ADDED = {"generation", "instance", "job", "le"}
"""By Prometheus; the first one by the replay worker, to what it scrapes of its processes."""
COURSES = ROOT / "tests/infra/alerts.yaml"
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

    used = set(re.findall(r"\b(?:(?:headrace|process)_\w+|up\b)", rule["expr"]))
    assert used and used <= NAMES.keys() | OWN
    known = {label for name in used if name in NAMES for label in LABELS[NAMES[name]]} | ADDED
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


def test_the_courses_show_each_rule_quiet_and_firing() -> None:
    checks = [check for test in yaml.safe_load(COURSES.read_text())["tests"] for check in test["alert_rule_test"]]
    firing = {check["alertname"] for check in checks if check.get("exp_alerts")}
    quiet = {check["alertname"] for check in checks if not check.get("exp_alerts")}
    assert firing == quiet == {rule["alert"] for rule in RULES}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool")
def test_rules_fire_when_they_should_and_only_then() -> None:
    done = subprocess.run(["promtool", "test", "rules", str(COURSES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("broken", ["sum by (headrace_lag_records", "rate(headrace_lag_records[5x])"])
def test_the_parser_refuses_what_prometheus_would(broken: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        promql_parser.parse(broken)
