"""Routes of verification, on doubles."""

from typing import Any

import pytest

from schemas.events import ControlSent
from schemas.topics import CONTROL
from tests.gateway.factories import Gateway

UNKNOWN = "0199f0a4-7c1e-7cc0-8a55-0d8f9c3c7b11"


def finding(document: str) -> dict[str, Any]:
    return {
        "kind": "orphaned",
        "generation": "g1",
        "tenant": "acme",
        "document": document,
        "version": None,
        "detail": "2 chunks, and no version is live",
        "seen_by": "operator",
        "reissued_at": None,
    }


async def test_a_verification_is_asked_for_and_the_operator_stage_is_woken(gateway: Gateway) -> None:
    response = await gateway.operator.post("/v1/verifications", json={"repair": True})

    asked = response.json()
    assert (response.status_code, asked["state"], asked["repair"], asked["findings"]) == (202, "asked", True, [])
    assert [control.kind for control in gateway.sender.events(ControlSent, CONTROL)] == ["verify"]
    assert (await gateway.operator.get(f"/v1/verifications/{asked['id']}")).json() == asked


async def test_nothing_is_repaired_unless_it_is_said(gateway: Gateway) -> None:
    response = await gateway.operator.post("/v1/verifications", json={})

    assert response.json()["repair"] is False


async def test_it_is_accepted_while_kafka_is_away(gateway: Gateway) -> None:
    gateway.sender.away = True

    assert (await gateway.operator.post("/v1/verifications", json={})).status_code == 202


async def test_findings_are_shown_a_thousand_at_a_time(gateway: Gateway) -> None:
    id = (await gateway.operator.post("/v1/verifications", json={})).json()["id"]
    gateway.verifications.rows[id] |= {
        "state": "finished",
        "progress": {"n_documents": 1_001, "n_views": 1, "silent_views": ["w"], "kinds": {"orphaned": 1_001}},
        "findings": [finding(f"d{n:04}") for n in range(1_001)],
    }

    first = (await gateway.operator.get(f"/v1/verifications/{id}")).json()
    second = (await gateway.operator.get(f"/v1/verifications/{id}?after=1000")).json()

    assert (first["state"], first["progress"]["silent_views"]) == ("finished", ["w"])
    assert (len(first["findings"]), first["findings"][0]) == (1_000, finding("d0000"))
    assert second["findings"] == [finding("d1000")]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/verifications"), ("GET", f"/v1/verifications/{UNKNOWN}"), ("GET", "/v1/coverage")],
)
async def test_only_operators_verify_and_see_coverage(gateway: Gateway, method: str, path: str) -> None:
    stranger = await gateway.anyone.request(method, path, json={})
    tenant = await gateway.acme.request(method, path, json={})

    assert (stranger.status_code, tenant.status_code) == (401, 403)
    assert tenant.json()["type"] == "urn:headrace:problem:not_operator"
    assert gateway.verifications.rows == {}


@pytest.mark.parametrize(
    ("path", "status"),
    [(UNKNOWN, 404), ("nonsense", 422), (f"{UNKNOWN}?after=-1", 422), (f"{UNKNOWN}?after=x", 422)],
)
async def test_what_is_not_there_or_no_id_is_a_clear_error(gateway: Gateway, path: str, status: int) -> None:
    response = await gateway.operator.get(f"/v1/verifications/{path}")

    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")


@pytest.mark.parametrize("body", [{"repair": "perhaps"}, {"mend": True}, []])
async def test_a_bad_request_asks_for_nothing(gateway: Gateway, body: Any) -> None:
    response = await gateway.operator.post("/v1/verifications", json=body)

    assert response.status_code == 422
    assert gateway.verifications.rows == {}


async def test_coverage_is_shown_by_generation(gateway: Gateway) -> None:
    row = {"generation": "g1", "n_documents": 5, "n_covered": 3, "n_failed": 1}
    gateway.verifications.covered.append(row)

    assert (await gateway.operator.get("/v1/coverage")).json() == [row]
