"""Health, readiness, metrics, keys and the OpenAPI document."""

import json
from pathlib import Path

import jsonschema
import pytest

from gateway.auth import ApiKeys, BadKeysFile
from gateway.openapi import document
from tests.gateway.factories import Gateway


async def test_health_needs_no_key(gateway: Gateway) -> None:
    assert (await gateway.anyone.get("/health")).json() == {"status": "alive"}


async def test_ready_names_the_dependency_that_is_away(gateway: Gateway) -> None:
    assert (await gateway.anyone.get("/ready")).status_code == 200
    gateway.broken["kafka"] = ConnectionError("refused")

    response = await gateway.anyone.get("/ready")

    assert response.status_code == 503
    assert response.json() == {
        "ready": False,
        "stopping": False,
        "parts": {
            "kafka": {"ok": False, "needed": True, "why": "ConnectionError: refused"},
            "objects": {"ok": True, "needed": False, "why": None},
            "valkey": {"ok": True, "needed": False, "why": None},
        },
    }


async def test_a_full_object_store_is_named_and_small_documents_are_taken(gateway: Gateway) -> None:
    gateway.broken["objects"] = OSError(28, "No space left on device")

    response = await gateway.anyone.get("/ready")
    taken = await gateway.acme.post("/v1/ingest", json={"documents": [{"id": "a", "text": "small"}]})

    assert (response.status_code, response.json()["ready"], taken.status_code) == (200, True, 202)
    assert response.json()["parts"]["objects"] == {
        "ok": False,
        "needed": False,
        "why": "OSError: [Errno 28] No space left on device",
    }


async def test_requests_are_counted_by_route_and_status(gateway: Gateway) -> None:
    await gateway.acme.get("/v1/documents/some%2Fid")

    metrics = (await gateway.anyone.get("/metrics")).text

    assert 'headrace_http_requests_total{route="/v1/documents/{document}",status="404"}' in metrics
    assert "some" not in metrics


def test_keys_are_read_again_when_the_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text('{"one": {"tenant": "acme"}}')
    keys = ApiKeys(file)

    file.write_text('{"two": {"tenant": "globex", "groups": ["staff"]}}')

    assert keys.find("one") is None
    caller = keys.find("two")
    assert caller is not None
    assert (caller.tenant, caller.groups) == ("globex", ("staff",))


def test_a_broken_change_leaves_the_keys_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text('{"one": {"tenant": "acme"}}')
    keys = ApiKeys(file)

    file.write_text("{oops")

    assert keys.find("one") is not None


@pytest.mark.parametrize("text", ["", "[]", '{"k": {}}', '{"k": {"tenant": "Not Valid"}}', '{"k": {"tenant": 1}}'])
def test_a_keys_file_of_another_shape_is_refused_with_what_is_expected(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.json"
    file.write_text(text)

    with pytest.raises(BadKeysFile, match="expected JSON like"):
        ApiKeys(file)


def test_every_example_is_valid_against_its_schema() -> None:
    api = json.loads(document())
    n_checked = 0
    for schema in api["components"]["schemas"].values():
        for example in schema.get("examples", ()):
            jsonschema.validate(example, {**schema, "components": api["components"]})
            n_checked += 1
    assert n_checked >= 4
