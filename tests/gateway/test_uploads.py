"""Files over HTTP: as base64 in JSON, and as multipart/form-data."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.events import DocumentSubmitted
from tests.gateway.factories import Gateway, gateway_in_memory

PDF = ("file", ("plan.pdf", b"%PDF-", "application/pdf"))
NOTES = ("file", ("notes/a.md", b"# A", None))


async def sent(gateway: Gateway, *files: Any, **fields: Any) -> httpx.Response:
    return await gateway.acme.post("/v1/documents", files=files, data=fields)


def refusal(response: httpx.Response) -> str:
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")
    return str(response.json()["detail"])


async def test_a_file_in_base64_is_sent_as_its_bytes(gateway: Gateway) -> None:
    document = {"id": "plan", "content": "JVBERi0=", "filename": "plan.pdf"}

    response = await gateway.acme.post("/v1/ingest", json={"documents": [document]})

    assert response.status_code == 202
    assert gateway.sender.events(DocumentSubmitted) == [DocumentSubmitted(content=b"%PDF-", filename="plan.pdf")]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"content": "no base64!"}, "/documents/0/content: is not base64"),
        ({"content": ""}, "is empty"),
        ({"content": "eA==", "text": "x"}, "exactly one of 'text', 'uri' and 'content'; text and content was given"),
        ({}, "none was given"),
    ],
)
async def test_a_bad_file_in_json_is_refused(gateway: Gateway, document: dict[str, Any], words: str) -> None:
    assert words in refusal(await gateway.acme.post("/v1/ingest", json={"documents": [document]}))


async def test_uploaded_files_are_documents_by_their_names(gateway: Gateway) -> None:
    response = await sent(gateway, PDF, NOTES)

    assert response.status_code == 202
    assert response.json()["documents"] == [
        {"id": "plan.pdf", "url": "/v1/documents/plan.pdf", "submission": "3:0"},
        {"id": "notes/a.md", "url": "/v1/documents/notes%2Fa.md", "submission": "3:1"},
    ]
    pdf, notes = gateway.sender.events(DocumentSubmitted)
    assert pdf == DocumentSubmitted(content=b"%PDF-", filename="plan.pdf", content_type="application/pdf")
    assert (notes.content, notes.filename) == (b"# A", "notes/a.md")


async def test_what_is_said_of_one_file_wins_over_what_is_said_of_all(gateway: Gateway) -> None:
    documents = [{"id": "p", "title": "Plan", "metadata": {"year": 2025}, "acl": ["board"]}, {}]

    await sent(
        gateway,
        PDF,
        NOTES,
        documents=json.dumps(documents),
        collection="manuals",
        metadata='{"year": 2026, "lang": "en"}',
        acl=["staff", "guests"],
    )

    pdf, notes = gateway.sender.events(DocumentSubmitted)
    assert gateway.sender.sent[0][1] == b"acme/p"
    assert (pdf.title, pdf.metadata, pdf.acl) == ("Plan", {"year": 2025, "lang": "en"}, ["board"])
    assert (notes.metadata, notes.acl) == ({"year": 2026, "lang": "en"}, ["staff", "guests"])
    assert (pdf.collection, notes.collection) == ("manuals", "manuals")


@pytest.mark.parametrize(
    ("files", "fields", "words"),
    [
        ([PDF], {"documents": "{}"}, "/documents: expected a JSON list"),
        ([PDF], {"documents": "[{}, {}]"}, "expected one object per file; there are 1 files"),
        ([PDF], {"documents": "[1]"}, "/documents/0"),
        ([PDF], {"documents": '[{"acll": []}]'}, "there is no field 'acll'"),
        ([PDF], {"metadata": "{"}, "/metadata: is not JSON"),
        ([PDF], {"metadata": "[]"}, "/metadata: expected a JSON object"),
        ([PDF], {"acl": ""}, "/documents/0/acl"),
        ([PDF, PDF], {}, "comes twice"),
        ([("file", ("a", b"", None))], {}, "is empty"),
        ([("file", ("x" * 513, b"x", None))], {}, "/documents/0/id"),
        ([("other", ("a", b"x", None))], {}, "/file"),
    ],
)
async def test_a_bad_upload_is_refused_with_its_place(
    gateway: Gateway, files: Any, fields: dict[str, Any], words: str
) -> None:
    assert words in refusal(await sent(gateway, *files, **fields))
    assert gateway.sender.sent == []


async def test_a_form_that_is_none_is_refused(gateway: Gateway) -> None:
    headers = {"content-type": "multipart/form-data; boundary=B"}

    for content in (b"--B\r\nno form", b'{"documents": []}'):
        assert refusal(await gateway.acme.post("/v1/documents", content=content, headers=headers))
    assert "multipart/form-data" in refusal(
        await gateway.acme.post("/v1/documents", content=b"x", headers={"content-type": "multipart/form-data"})
    )


async def test_an_upload_is_bounded_while_it_arrives(gateway: Gateway) -> None:
    response = await sent(gateway, ("file", ("a.txt", b"x" * 70_000, None)))

    assert (response.status_code, response.json()["type"]) == (413, "urn:headrace:problem:body_too_large")
    assert gateway.sender.sent == []


async def test_an_upload_needs_a_key(gateway: Gateway) -> None:
    assert (await gateway.anyone.post("/v1/documents", files=[PDF])).status_code == 401


async def test_an_upload_may_be_repeated_with_its_key(gateway: Gateway) -> None:
    headers = {"Idempotency-Key": "k"}

    first = await gateway.acme.post("/v1/documents", files=[PDF], headers=headers)
    again = await gateway.acme.post("/v1/documents", files=[PDF], headers=headers)
    other = await gateway.acme.post("/v1/documents", files=[NOTES], headers=headers)

    assert first.json() == again.json()
    assert len(gateway.sender.sent) == 1
    assert (other.status_code, other.json()["type"]) == (422, "urn:headrace:problem:idempotency_key_reused")


async def test_a_large_file_goes_to_the_object_store(tmp_path: Path) -> None:
    async with gateway_in_memory(tmp_path, body_max_bytes=4 * 1024 * 1024) as gateway:
        response = await sent(gateway, ("file", ("a.txt", b"x" * 2**20, None)))

        assert response.status_code == 202
        assert len(gateway.blobs.objects) == 1
