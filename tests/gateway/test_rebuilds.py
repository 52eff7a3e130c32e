"""Routes of rebuilding, on doubles."""

import pytest

from schemas.events import ControlSent
from schemas.topics import CONTROL
from tests.gateway.factories import Gateway

PROBLEM = "urn:headrace:problem:"
UNKNOWN = "0199f0a4-7c1e-7cc0-8a55-0d8f9c3c7b11"


async def test_a_rebuild_is_asked_for_and_the_operator_stage_is_woken(gateway: Gateway) -> None:
    response = await gateway.operator.post("/v1/generations/g1/rebuild", json={"sink": "pgvector"})

    asked = response.json()
    assert (response.status_code, asked["state"], asked["sink"]) == (202, "asked", "pgvector")
    assert [control.kind for control in gateway.sender.events(ControlSent, CONTROL)] == ["rebuild"]
    assert (await gateway.operator.get(f"/v1/rebuilds/{asked['id']}")).json() == asked
    assert (await gateway.operator.get("/v1/rebuilds")).json() == [asked]


async def test_a_sink_is_rebuilt_once_at_a_time(gateway: Gateway) -> None:
    first = await gateway.operator.post("/v1/generations/g1/rebuild", json={"sink": "pgvector"})
    again = await gateway.operator.post("/v1/generations/g1/rebuild", json={"sink": "pgvector"})
    other = await gateway.operator.post("/v1/generations/g1/rebuild", json={"sink": "tantivy"})

    assert [each.status_code for each in (first, again, other)] == [202, 409, 202]
    assert again.json()["type"] == f"{PROBLEM}rebuild_open"


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/generations/none/rebuild", {"sink": "pgvector"}, 404, "no_generation"),
        ("/v1/generations/g1/rebuild", {"sink": "opensearch"}, 409, "not_held_there"),
        ("/v1/generations/g1/rebuild", {"sink": "faiss"}, 422, "invalid"),
        ("/v1/generations/g1/rebuild", {}, 422, "invalid"),
        ("/v1/generations/g1/rebuild", {"sink": "pgvector", "force": True}, 422, "invalid"),
    ],
)
async def test_what_cannot_be_rebuilt_is_refused(
    gateway: Gateway, path: str, body: dict[str, object], status: int, code: str
) -> None:
    response = await gateway.operator.post(path, json=body)

    assert (response.status_code, response.json()["type"]) == (status, f"{PROBLEM}{code}")
    assert gateway.rebuilds.rows == []


async def test_one_that_holds_nothing_is_refused(gateway: Gateway) -> None:
    await gateway.operator.post(
        "/v1/generations", json={"name": "g2", "chunker": "tokens", "embedder": "all-MiniLM-L6-v2"}
    )

    response = await gateway.operator.post("/v1/generations/g2/rebuild", json={"sink": "pgvector"})

    assert (response.status_code, response.json()["type"]) == (409, f"{PROBLEM}holds_nothing")


async def test_what_there_is_not_is_said(gateway: Gateway) -> None:
    assert (await gateway.operator.get(f"/v1/rebuilds/{UNKNOWN}")).status_code == 404
    assert (await gateway.operator.get("/v1/rebuilds/yesterday")).status_code == 422


async def test_only_an_operator_may(gateway: Gateway) -> None:
    assert (await gateway.acme.post("/v1/generations/g1/rebuild", json={"sink": "pgvector"})).status_code == 403
    assert (await gateway.acme.get("/v1/rebuilds")).status_code == 403
