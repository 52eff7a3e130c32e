"""Routes of index generations, over doubles."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.factories import Gateway, gateway_in_memory

MADE = {"name": "g2", "chunker": "tokens", "embedder": "all-MiniLM-L6-v2"}


async def create(gateway: Gateway) -> None:
    response = await gateway.operator.post("/v1/generations", json=MADE)
    assert response.status_code == 202, response.text
    gateway.generations.rows["g2"]["state"] = "following"


async def judge(gateway: Gateway, verdict: str) -> None:
    asked = await gateway.gates.ask(candidate="g2", base="g1", tenant="acme", margin=0.05, sets={})
    assert asked is not None
    gateway.gates.rows[-1] |= {
        "state": "finished",
        "verdict": verdict,
        "passed": verdict in ("better", "equal"),
        "finished_at": datetime.now(UTC),
        "reason": "as measured",
    }


async def test_a_name_is_used_once(gateway: Gateway) -> None:
    await create(gateway)

    again = await gateway.operator.post("/v1/generations", json=MADE)

    assert again.status_code == 409
    assert again.json()["type"] == "urn:headrace:problem:generation_exists"
    listed = (await gateway.operator.get("/v1/generations")).json()
    assert [(each["name"], each["serving"]) for each in listed] == [("g1", True), ("g2", False)]


@pytest.mark.parametrize("body", [MADE | {"name": "G 2"}, MADE | {"chunker": ""}, MADE | {"dim": 4}, {"name": "g2"}])
async def test_what_no_generation_can_be_is_refused(gateway: Gateway, body: dict[str, Any]) -> None:
    assert (await gateway.operator.post("/v1/generations", json=body)).status_code == 422


async def test_opensearch_is_for_those_who_have_one(gateway: Gateway, tmp_path: Path) -> None:
    wanted = MADE | {"lexical": "opensearch", "vectors": "opensearch"}

    refused = await gateway.operator.post("/v1/generations", json=wanted)
    plain = await gateway.operator.post("/v1/generations", json=MADE)
    async with gateway_in_memory(tmp_path, opensearch_url="http://127.0.0.1:9200") as other:
        made = await other.operator.post("/v1/generations", json=wanted)
    unknown = await gateway.operator.post("/v1/generations", json=MADE | {"lexical": "lucene"})

    assert (refused.status_code, refused.json()["type"]) == (409, "urn:headrace:problem:no_opensearch")
    assert "HEADRACE_OPENSEARCH_URL" in refused.json()["detail"]
    assert (plain.json()["lexical"], plain.json()["vectors"]) == ("tantivy", "pgvector")
    assert (made.status_code, made.json()["lexical"], made.json()["vectors"]) == (202, "opensearch", "opensearch")
    assert unknown.status_code == 422


async def test_only_operators_see_and_change_generations(gateway: Gateway) -> None:
    for method, path in (("GET", "/v1/generations"), ("POST", "/v1/generations/g1/pause"), ("POST", "/v1/rollback")):
        assert (await gateway.acme.request(method, path)).status_code == 403


async def test_progress_says_how_long_it_will_take(gateway: Gateway) -> None:
    await create(gateway)
    gateway.generations.progresses["g2"] = {"n_documents": 100, "n_covered": 30, "n_failed": 10, "documents_per_s": 2.0}

    assert (await gateway.operator.get("/v1/generations/g2")).json()["eta_s"] == 30.0
    gateway.generations.progresses["g2"]["documents_per_s"] = 0.0
    assert (await gateway.operator.get("/v1/generations/g2")).json()["eta_s"] is None
    assert (await gateway.operator.get("/v1/generations/g3")).status_code == 404


async def test_a_switch_needs_a_passed_gate_or_force(gateway: Gateway) -> None:
    await create(gateway)
    path = "/v1/generations/g2/switch"
    unjudged = await gateway.operator.post(path, json={})
    await judge(gateway, "worse")
    worse = await gateway.operator.post(path, json={})
    forced = await gateway.operator.post(path, json={"force": True})

    assert [each.status_code for each in (unjudged, worse, forced)] == [409, 409, 202]
    assert "no gate has judged it" in unjudged.json()["detail"]
    assert "the gate said worse" in worse.json()["detail"]
    assert (forced.json()["forced"], forced.json()["gate"]) == (True, None)


async def test_a_passed_gate_is_kept_with_the_switch_and_one_switch_is_open_at_a_time(gateway: Gateway) -> None:
    await create(gateway)
    await judge(gateway, "equal")

    switched = await gateway.operator.post("/v1/generations/g2/switch", json={})
    again = await gateway.operator.post("/v1/generations/g2/switch", json={})

    assert (switched.status_code, switched.json()["gate"]) == (202, gateway.gates.rows[-1]["id"])
    assert again.json()["type"] == "urn:headrace:problem:switch_open"
    assert (await gateway.operator.delete("/v1/generations/g2")).status_code == 409
    assert (await gateway.operator.delete("/v1/switches")).status_code == 200
    assert (await gateway.operator.delete("/v1/switches")).status_code == 409


async def test_what_answers_is_neither_paused_nor_dropped_nor_switched_to(gateway: Gateway) -> None:
    for method, path in (("POST", "g1/pause"), ("DELETE", "g1"), ("POST", "g1/switch")):
        response = await gateway.operator.request(method, f"/v1/generations/{path}", json={"force": True})
        assert response.status_code == 409, response.text


async def test_pausing_and_resuming_are_repeated_without_harm(gateway: Gateway) -> None:
    await create(gateway)

    for verb, state in (("pause", "paused"), ("pause", "paused"), ("resume", "following")):
        response = await gateway.operator.post(f"/v1/generations/g2/{verb}")
        assert (response.status_code, response.json()["state"]) == (202, state)


async def test_a_paused_one_is_resumed_before_it_may_answer(gateway: Gateway) -> None:
    await create(gateway)
    await gateway.operator.post("/v1/generations/g2/pause")

    response = await gateway.operator.post("/v1/generations/g2/switch", json={"force": True})

    assert (response.status_code, response.json()["type"]) == (409, "urn:headrace:problem:not_followed")
    assert "headrace generation resume g2" in response.json()["detail"]


async def test_a_rollback_needs_a_switch(gateway: Gateway) -> None:
    response = await gateway.operator.post("/v1/rollback", json={})

    assert response.status_code == 409
    assert response.json()["type"] == "urn:headrace:problem:nothing_to_roll_back"


async def test_a_candidate_is_given_a_share_of_the_questions_and_what_answers_is_not(gateway: Gateway) -> None:
    await create(gateway)

    given = await gateway.operator.post("/v1/generations/g2/shadow", json={"share": 0.1})
    serving = await gateway.operator.post("/v1/generations/g1/shadow", json={"share": 0.1})
    ended = await gateway.operator.post("/v1/generations/g2/shadow", json={"share": 0})
    gateway.generations.rows["g2"]["state"] = "dropped"
    dropped = await gateway.operator.post("/v1/generations/g2/shadow", json={"share": 0.1})

    assert (given.status_code, given.json()["shadow_share"]) == (202, 0.1)
    assert (serving.status_code, serving.json()["type"]) == (409, "urn:headrace:problem:serving")
    assert (ended.status_code, ended.json()["shadow_share"]) == (202, 0)
    assert (dropped.status_code, dropped.json()["type"]) == (409, "urn:headrace:problem:wrong_state")
    assert (await gateway.operator.post("/v1/generations/g9/shadow", json={"share": 0})).status_code == 404


@pytest.mark.parametrize("body", [{}, {"share": -0.1}, {"share": 1.1}, {"share": None}, {"share": 0.1, "of": "all"}])
async def test_a_share_is_from_0_to_1(gateway: Gateway, body: dict[str, Any]) -> None:
    await create(gateway)

    assert (await gateway.operator.post("/v1/generations/g2/shadow", json=body)).status_code == 422
    assert gateway.generations.rows["g2"]["shadow_share"] == 0


async def test_only_operators_see_and_set_a_shadow(gateway: Gateway) -> None:
    await create(gateway)

    assert (await gateway.acme.post("/v1/generations/g2/shadow", json={"share": 1})).status_code == 403
    assert gateway.generations.rows["g2"]["shadow_share"] == 0


async def test_what_a_shadow_found_is_shown_with_the_progress(gateway: Gateway) -> None:
    await create(gateway)
    measure = {"name": "relevance", "n": 9, "base": 0.5, "candidate": 0.6, "difference": 0.1, "low": 0.02, "high": 0.2}
    told = {"base": "g1", "n": 12, "n_failed": 1, "confidence": 0.95, "overlap": 0.8, "agreement": 0.7}
    since = datetime(2026, 11, 26, tzinfo=UTC)
    shadow = told | {"measures": [measure], "since": since, "n_dropped": 3}

    none = (await gateway.operator.get("/v1/generations/g2")).json()
    gateway.generations.progresses["g2"] = {"shadow": {"since": since, "n_dropped": 0}}
    empty = (await gateway.operator.get("/v1/generations/g2")).json()["shadow"]
    gateway.generations.progresses["g2"] = {"shadow": shadow}
    found = (await gateway.operator.get("/v1/generations/g2")).json()["shadow"]

    assert none["shadow"] is None
    assert (empty["base"], empty["n"], empty["overlap"], empty["measures"]) == (None, 0, None, [])
    assert found == shadow | {"since": "2026-11-26T00:00:00Z"}
