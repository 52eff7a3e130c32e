"""Documents: what is sent to Kafka, what is shown, and to whom."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.ports import DocumentRow
from schemas.events import DocumentSubmitted
from tests.gateway.factories import Gateway, document_row, gateway_in_memory


async def test_a_document_is_acknowledged_with_its_place(gateway: Gateway) -> None:
    document = {"id": "docs/a.md", "text": "Hello.", "title": "A", "metadata": {"n": 1}, "acl": ["staff"]}

    response = await gateway.acme.post("/v1/ingest", json={"documents": [document]})

    assert response.status_code == 202
    assert response.json() == {
        "documents": [{"id": "docs/a.md", "url": "/v1/documents/docs%2Fa.md", "submission": "3:0"}]
    }
    [(topic, key, _, headers)] = gateway.sender.sent
    assert (topic, key) == ("rag.ingest.v1", b"acme/docs/a.md")
    assert headers["ce_source"] == b"/headrace/gateway"
    [event] = gateway.sender.events(DocumentSubmitted)
    assert event == DocumentSubmitted(text="Hello.", title="A", metadata={"n": 1}, acl=["staff"])


async def test_an_id_is_made_where_none_is_given(gateway: Gateway) -> None:
    response = await gateway.acme.post("/v1/ingest", json={"documents": [{"text": "a"}, {"text": "b"}]})

    first, second = response.json()["documents"]
    assert first["id"] != second["id"]


async def test_when_kafka_takes_some_only_the_problem_says_which(gateway: Gateway) -> None:
    gateway.sender.failing = {b"acme/b"}

    response = await gateway.acme.post(
        "/v1/ingest", json={"documents": [{"id": each, "text": "x"} for each in ("a", "b", "c")]}
    )

    problem = response.json()
    assert (response.status_code, response.headers["retry-after"]) == (503, "2")
    assert [each["id"] for each in problem["accepted"]] == ["a", "c"]
    assert problem["failed"] == ["b"]


async def test_a_value_over_a_mebibyte_goes_to_the_object_store(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, body_max_bytes=4 * 1024 * 1024) as gateway:
        response = await gateway.acme.post("/v1/ingest", json={"documents": [{"id": "a", "text": "x" * 1_048_577}]})

        assert response.status_code == 202
        [(_, _, value, headers)] = gateway.sender.sent
        assert value == b"{}"
        assert [*gateway.blobs.objects] == [(headers["hr_blob"] or b"").decode()]


async def test_a_delete_is_a_null_value(gateway: Gateway) -> None:
    response = await gateway.acme.delete("/v1/documents/docs%2Fa.md")

    assert (response.status_code, response.json()["submission"]) == (202, "3:0")
    assert gateway.sender.sent[0][:3] == ("rag.ingest.v1", b"acme/docs/a.md", None)


async def test_a_submission_is_submitted_until_intake_has_applied_it(gateway: Gateway) -> None:
    gateway.documents.rows["acme", "a"] = document_row("a", applied={3: 10})
    wanted = [
        {"id": "a", "submission": "3:10"},
        {"id": "a", "submission": "3:11"},
        {"id": "a", "submission": "2:0"},
        {"id": "a"},
        {"id": "b"},
        {"id": "b", "submission": "0:0"},
    ]

    response = await gateway.acme.post("/v1/documents/lookup", json={"documents": wanted})

    assert [(each["id"], each["status"]) for each in response.json()["documents"]] == [
        ("a", "indexed"),
        ("a", "submitted"),
        ("a", "submitted"),
        ("a", "indexed"),
        ("b", "unknown"),
        ("b", "submitted"),
    ]


async def test_a_failed_document_says_where_and_why(gateway: Gateway) -> None:
    failure = {"stage": "chunk", "reason": "too_many_chunks", "message": "20,001 chunks"}
    gateway.documents.rows["acme", "a"] = document_row("a", status="failed", attributes={"failure": failure})

    assert (await gateway.acme.get("/v1/documents/a")).json()["failure"] == failure


async def test_a_deleted_document_is_not_found_but_looked_up(gateway: Gateway) -> None:
    gateway.documents.rows["acme", "a"] = document_row("a", status="deleted", deleted=True)

    assert (await gateway.acme.get("/v1/documents/a")).status_code == 404
    assert (await gateway.acme.get("/v1/documents/a?submission=3:11")).json()["status"] == "submitted"
    looked_up = await gateway.acme.post("/v1/documents/lookup", json={"documents": [{"id": "a"}]})
    assert looked_up.json()["documents"][0]["status"] == "deleted"


async def test_a_hidden_document_tells_its_submitter_the_status_and_nothing_else(gateway: Gateway) -> None:
    gateway.documents.rows["acme", "a"] = document_row("a", readable=False, attributes={"title": "Secret"})

    looked_up = await gateway.acme.post(
        "/v1/documents/lookup", json={"documents": [{"id": "a", "submission": "3:10"}, {"id": "a"}]}
    )

    assert [each["status"] for each in looked_up.json()["documents"]] == ["indexed", "unknown"]
    assert "Secret" not in looked_up.text
    assert (await gateway.acme.get("/v1/documents/a")).status_code == 404
    assert (await gateway.acme.get("/v1/documents")).json()["documents"] == []


async def test_pages_follow_each_other_and_end(gateway: Gateway) -> None:
    for name in ("a", "b/ü", "c"):
        gateway.documents.rows["acme", name] = document_row(name)

    first = (await gateway.acme.get("/v1/documents", params={"limit": 2})).json()
    second = (await gateway.acme.get("/v1/documents", params={"limit": 2, "cursor": first["next_cursor"]})).json()

    assert [each["id"] for each in first["documents"]] == ["a", "b/ü"]
    assert [each["id"] for each in second["documents"]] == ["c"]
    assert second["next_cursor"] is None


async def test_nothing_crosses_between_tenants(gateway: Gateway) -> None:
    for name in ("a", "b"):
        gateway.documents.rows["acme", name] = document_row(name)
    gateway.documents.contents["acme", "a"] = await gateway.blobs.put(b"text")
    cursor = (await gateway.acme.get("/v1/documents", params={"limit": 1})).json()["next_cursor"]

    assert (await gateway.globex.get("/v1/documents", params={"cursor": cursor})).json()["documents"] == []
    assert (await gateway.globex.get("/v1/documents/a")).status_code == 404
    assert (await gateway.globex.get("/v1/documents/a/content")).status_code == 404
    await gateway.globex.delete("/v1/documents/a")
    assert gateway.sender.sent[0][1] == b"globex/a"


async def test_content_is_text_and_can_be_sliced_by_code_points(gateway: Gateway) -> None:
    gateway.documents.contents["acme", "a/b.md"] = await gateway.blobs.put("Größe 🙂 zählt".encode())

    whole = await gateway.acme.get("/v1/documents/a%2Fb.md/content")
    piece = await gateway.acme.get("/v1/documents/a%2Fb.md/content", params={"start": 6, "end": 9})

    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.text == "Größe 🙂 zählt"
    assert piece.text == "🙂 z"


async def test_an_id_that_ends_like_a_route_is_still_an_id(gateway: Gateway) -> None:
    gateway.documents.rows["acme", "a/content"] = document_row("a/content")

    assert (await gateway.acme.get("/v1/documents/a%2Fcontent")).json()["id"] == "a/content"


async def test_a_lost_text_is_an_error_that_says_so(gateway: Gateway) -> None:
    gateway.documents.contents["acme", "a"] = "0" * 64

    response = await gateway.acme.get("/v1/documents/a/content")

    assert (response.status_code, response.json()["type"]) == (500, "urn:headrace:problem:content_lost")


# --- patches ----------------------------------------------------------------------------------------


async def test_a_patch_travels_as_a_submission_with_the_rights_of_its_sender(gateway: Gateway) -> None:
    gateway.documents.rows["acme", "docs/a.md"] = document_row("docs/a.md")
    changes = {"metadata": {"year": 2027, "draft": None}, "acl": None}

    response = await gateway.acme.patch(
        "/v1/documents/docs%2Fa.md", json=changes, headers={"Content-Type": "application/merge-patch+json"}
    )

    assert response.status_code == 202
    assert response.json() == {"id": "docs/a.md", "url": "/v1/documents/docs%2Fa.md", "submission": "3:0"}
    assert [key for _, key, _, _ in gateway.sender.sent] == [b"acme/docs/a.md"]
    assert gateway.sender.events(DocumentSubmitted) == [DocumentSubmitted(patch=changes, patch_groups=["staff"])]


@pytest.mark.parametrize(
    "row",
    [
        None,
        document_row("a", readable=False),
        document_row("a", status="deleted", deleted=True),
        document_row("a", status="failed", attributes={"latest_version": 0}),
    ],
    ids=["unknown", "hidden", "deleted", "never accepted"],
)
async def test_what_is_not_there_for_the_caller_cannot_be_patched(gateway: Gateway, row: DocumentRow | None) -> None:
    if row is not None:
        gateway.documents.rows["acme", "a"] = row

    response = await gateway.acme.patch("/v1/documents/a", json={"acl": None})

    assert (response.status_code, response.json()["type"]) == (404, "urn:headrace:problem:no_document")
    assert gateway.sender.sent == []


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ({"acll": ["staff"]}, "/acll", "there is no field 'acll'"),
        ({"text": "x", "title": "y"}, "/text", "there is no field 'text'"),
        ({}, "", "changes nothing; expected at least one of metadata, acl, title, collection"),
        ({"acl": []}, "/acl", "at least 1"),
        ({"acl": "staff"}, "/acl", "list"),
        ({"metadata": {"a": {"b": 1}}}, "/metadata", "'a' is nested"),
        ({"metadata": {"a": [[1]]}}, "/metadata", "'a' is nested"),
        ({"title": "a\0b"}, "/title", "NUL"),
        ([], "", "object"),
    ],
)
async def test_a_bad_patch_is_refused_by_its_place(gateway: Gateway, body: Any, pointer: str, detail: str) -> None:
    gateway.documents.rows["acme", "a"] = document_row("a")

    response = await gateway.acme.patch("/v1/documents/a", json=body)

    assert response.status_code == 422
    [error] = [each for each in response.json()["errors"] if each["pointer"] == pointer]
    assert detail in error["detail"]
    assert gateway.sender.sent == []


async def test_a_patch_sent_again_with_its_key_is_sent_once_even_where_the_document_is_gone(gateway: Gateway) -> None:
    gateway.documents.rows["acme", "a"] = document_row("a")
    gateway.documents.rows["acme", "b"] = document_row("b")

    async def patched(document: str, title: str) -> httpx.Response:
        headers = {"Idempotency-Key": "k1"}
        return await gateway.acme.patch(f"/v1/documents/{document}", json={"title": title}, headers=headers)

    first = await patched("a", "B")
    gateway.documents.rows.pop(("acme", "a"))
    second, other, elsewhere = await patched("a", "B"), await patched("a", "C"), await patched("b", "B")

    assert second.json() == first.json()
    assert [each.status_code for each in (first, second, other, elsewhere)] == [202, 202, 422, 422]
    assert len(gateway.sender.sent) == 1
