"""`headrace generation` against a fake gateway."""

import json
from typing import Any

from tests.headrace.cli.conftest import Headrace
from tests.headrace.fake_gateway import FakeGateway

MEASURE = {"name": "relevance", "n": 9, "base": 0.5, "candidate": 0.6, "difference": 0.1, "low": 0.02, "high": 0.2}
SHADOW = {"base": "g1", "n": 12, "n_dropped": 3, "n_failed": 1, "overlap": 0.8125, "agreement": 0.75}
G2: dict[str, Any] = {"name": "g2", "chunker": "tokens", "embedder": "e", "dim": 4, "state": "following", "why": None}
G2 |= {"serving": False, "n_documents": 9, "n_covered": 9, "n_failed": 0, "documents_per_s": 0.0, "eta_s": None}
G2 |= {"n_workers": 1, "n_ready": 1, "shadow_share": 0.0, "shadow": None, "lexical": "tantivy", "vectors": "pgvector"}


def test_a_share_is_sent_and_what_it_found_is_shown(fake: FakeGateway, headrace: Headrace) -> None:
    fake.gates = [G2 | {"shadow_share": 0.1, "shadow": SHADOW | {"measures": [MEASURE]}}]

    result = headrace("generation", "shadow", "g2", "--share", "0.1")

    assert result.exit_code == 0
    assert fake.gated == [("POST", {"share": 0.1})]
    assert "shadow of 10% of the questions against g1: 12 asked, 3 dropped, 1 failed" in result.stdout
    assert "sources overlap 0.812, answers agree 0.750" in result.stdout
    [row] = [line.split() for line in result.stdout.splitlines() if line.strip().startswith("relevance")]
    assert row == ["relevance", "9", "0.500", "0.600", "+0.100", "+0.020", "to", "+0.200"]


def test_one_that_was_asked_nothing_yet_says_so_in_one_line(fake: FakeGateway, headrace: Headrace) -> None:
    empty: dict[str, Any] = {
        "base": None,
        "n": 0,
        "n_dropped": 0,
        "n_failed": 0,
        "overlap": None,
        "agreement": None,
        "measures": [],
    }
    fake.gates = [G2 | {"shadow_share": 1.0, "shadow": empty}]

    result = headrace("generation", "show", "g2")

    assert result.stdout.splitlines()[2:] == ["shadow of 100% of the questions: 0 asked, 0 dropped, 0 failed"]


def test_one_without_a_shadow_does_not_speak_of_it(fake: FakeGateway, headrace: Headrace) -> None:
    fake.gates = [G2]

    assert "shadow" not in headrace("generation", "show", "g2").stdout
    assert json.loads(headrace("generation", "show", "g2", "--json").stdout)["shadow"] is None


def test_a_share_is_from_0_to_1(headrace: Headrace) -> None:
    assert headrace("generation", "shadow", "g2", "--share", "1.1").exit_code == 2
    assert headrace("generation", "shadow", "g2").exit_code == 2
