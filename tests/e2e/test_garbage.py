"""Bad input gets a clear answer; its neighbours do not notice."""

import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from confluent_kafka import Producer

from schemas.topics import CHUNKS, DOCUMENTS, EMBEDDINGS, INGEST, LIFECYCLE, QUERIES, RETRIEVALS
from tests.e2e.api import Api
from tests.e2e.test_outside_producers import dead_letters
from tests.stack import Stack


def is_problem(response: httpx.Response) -> dict[str, Any]:
    """Every refusal is problem+json that says what was wrong, without a stack trace."""
    assert response.headers["content-type"].startswith("application/problem+json"), response.text
    assert "Traceback" not in response.text
    problem = dict(response.json())
    assert problem["status"] == response.status_code
    assert problem["title"] and problem["detail"]
    return problem


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{not json", 422),
        (b"\xff\xfe\x00", 422),
        (b'{"documents": []}', 422),
        (b'{"documents": [{}]}', 422),
        (b'{"documents": [{"id": "a", "text": ""}]}', 422),
        (b'{"documents": [{"id": "a", "text": "x", "uri": "https://example.org/"}]}', 422),
        (b'{"documents": [{"id": "a", "uri": "file:///etc/passwd"}]}', 422),
        (b'{"documents": [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}]}', 422),
        (b'{"documents": [{"id": "' + b"a" * 600 + b'", "text": "x"}]}', 422),
        (b'{"documents": [{"id": "a\\u0000b", "text": "x"}]}', 422),
        (b'{"documents": [{"id": "a", "text": "x", "acls": ["g"]}]}', 422),
    ],
)
def test_a_bad_body_is_refused_with_its_reason(acme: Api, body: bytes, status: int) -> None:
    response = acme.client.post("/v1/ingest", content=body, headers={"Content-Type": "application/json"})

    assert response.status_code == status
    is_problem(response)


def test_a_file_of_50_mb_is_refused_and_the_gateway_lives(stack: Stack, acme: Api) -> None:
    address = urlsplit(stack.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=20)
    connection.putrequest("POST", "/v1/ingest")
    for name, value in {"Authorization": "Bearer acme-key", "Content-Length": str(50 * 1024 * 1024)}.items():
        connection.putheader(name, value)
    # Refused by its length alone, so a client that waits for the answer need not send the body.
    connection.endheaders(b'{"documents": [')
    response = connection.getresponse()
    problem = json.loads(response.read())
    connection.close()

    assert (response.status, problem["status"]) == (413, 413)
    assert response.headers["content-type"] == "application/problem+json"
    assert "33554432 bytes" in problem["detail"]
    assert acme.client.get("/health").status_code == 200


def test_a_document_of_too_many_chunks_fails_with_a_clear_reason(acme: Api) -> None:
    text = "\n\n".join(f"# Heading number {n}\n\nThe line of heading {n}." for n in range(20_001))

    [failed] = acme.put({"id": "too-many.md", "text": text, "content_type": "text/markdown"})

    assert failed["status"] == "failed"
    assert failed["failure"]["reason"] == "too_many_chunks"
    assert "20,000" in failed["failure"]["message"]


def test_a_poison_record_in_each_topic_leaves_its_neighbours_alone(stack: Stack, acme: Api) -> None:
    producer = Producer({"bootstrap.servers": stack.kafka})
    poisoned = {
        "intake": INGEST,
        "chunk": DOCUMENTS,
        "embed": CHUNKS.named("structure"),
        "index": EMBEDDINGS.named("g1"),
        "lifecycle": LIFECYCLE,
        "retrieve": QUERIES,
        "generate": RETRIEVALS,
    }
    before = {stage: len(dead_letters(stack, stage)) for stage in poisoned}

    for topic in poisoned.values():
        for partition in range(topic.partitions):
            producer.produce(topic.name, key="acme/poison", value=b"\x00\x01 poison", partition=partition)
    assert producer.flush(20) == 0
    [good] = acme.put({"id": "beside-poison", "text": "The unpoisoned carp swims beside it."})

    assert good["status"] == "indexed"
    acme.find("unpoisoned carp", "beside-poison", rankers=["lexical"])
    assert "carp" in acme.query("What swims beside it?")["answer"]
    end = time.monotonic() + 30
    missing = dict(poisoned)
    while missing:
        missing = {
            stage: topic
            for stage, topic in missing.items()
            if len(dead_letters(stack, stage)) - before[stage] < topic.partitions
        }
        assert time.monotonic() < end, f"no dead letter from {sorted(missing)}"


@pytest.mark.parametrize(
    "body",
    [
        {"query": ""},
        {"query": "   "},
        {"query": "x" * 9000},
        {"query": "x", "top_k": 0},
        {"query": "x", "top_k": 10_000},
        {"query": "x", "filters": {"a": {"b": 1}}},
        {"question": "x"},
    ],
)
def test_a_bad_question_is_refused_with_its_reason(acme: Api, body: dict[str, Any]) -> None:
    response = acme.client.post("/v1/query", json=body)

    assert response.status_code == 422
    is_problem(response)


@pytest.mark.parametrize(
    "text", ['"', "AND OR NOT", "a:b:c^~*?[]{}()", "'; DROP TABLE documents; --", "日本語", "\U0001f600", "-"]
)
def test_any_text_is_a_valid_search(acme: Api, text: str) -> None:
    for ranker in ("dense", "lexical", "hybrid"):
        acme.search(text, rankers=[ranker])
