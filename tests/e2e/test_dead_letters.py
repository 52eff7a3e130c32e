"""Dead letters of every stage, looked after by the command line as a person on call does."""

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from backbone.objects import FolderBlobs
from headrace.cli import app
from schemas.ids import new_query_id
from schemas.topics import CHUNKS, DOCUMENTS, EMBEDDINGS, INGEST, LIFECYCLE, QUERIES, RESULTS, RETRIEVALS, Topic
from tests.e2e.api import Api
from tests.stack import Stack

POISONED = {
    "intake": INGEST,
    "chunk": DOCUMENTS,
    "embed": CHUNKS.named("structure"),
    "index": EMBEDDINGS.named("g1"),
    "lifecycle": LIFECYCLE,
    "retrieve": QUERIES,
    "generate": RETRIEVALS,
    "score": RESULTS,
    "evaluate": RESULTS,
}
Headrace = Callable[..., Any]


@pytest.fixture
def headrace(stack: Stack) -> Headrace:
    """Run the command line with an operator's key; returns what it printed as JSON."""

    def run(*arguments: str, key: str = "operator-key", code: int = 0) -> Any:
        done = CliRunner().invoke(app, [*arguments, "--json", "--url", stack.url, "--api-key", key])
        assert done.exit_code == code, (done.output, done.exception)
        return json.loads(done.stdout)

    return run


@pytest.fixture
def produce(stack: Stack) -> Callable[..., None]:
    producer = Producer({"bootstrap.servers": stack.kafka})

    def send(topic: Topic, key: str, value: bytes | None, **headers: bytes) -> None:
        producer.produce(topic.name, key=key, value=value, headers=dict(headers))
        assert producer.flush(20) == 0

    return send


def awaited(headrace: Headrace, *filters: str, n: int = 1) -> list[dict[str, Any]]:
    """Dead letters, once there are as many as that."""
    end = time.monotonic() + 30
    while True:
        found = list(headrace("dlq", "list", *filters)["dead_letters"])
        if len(found) >= n:
            return found
        assert time.monotonic() < end, found
        time.sleep(0.3)


def await_counted(stack: Stack, n_open: int) -> None:
    """Wait until the operator stage tells that so many are open."""
    end = time.monotonic() + 30
    while (counted := stack.metric("worker-score", "headrace_dead_letters_open")) != n_open:
        assert time.monotonic() < end, (counted, n_open)
        time.sleep(0.3)


def test_every_stages_dead_letter_is_listed_and_shown_as_it_was_and_can_be_discarded(
    stack: Stack, headrace: Headrace, produce: Callable[..., None]
) -> None:
    mark = uuid.uuid4().hex
    value = b"\x00poison " + mark.encode()
    for topic in set(POISONED.values()):
        key = f"acme/{mark}" if topic.key == "tenant/document" else new_query_id()
        produce(topic, key, value, mine=b"\xff\x00", hr_version=b"1")

    found = {}
    for stage in POISONED:
        for each in awaited(headrace, "--stage", stage, "--since", "2m"):
            shown = headrace("dlq", "show", each["id"])
            headers = {header["name"]: header for header in shown["headers"]}
            if shown["n_bytes"] == len(value) and headers.get("mine", {}).get("base64") == "/wA=":
                found[stage] = shown
                raw = ["dlq", "show", each["id"], "--raw", "--url", stack.url, "--api-key", "operator-key"]
                assert CliRunner().invoke(app, raw).stdout_bytes == value

    assert set(found) == set(POISONED)
    for stage, shown in found.items():
        assert (shown["source_topic"], shown["kept"]) == (POISONED[stage].name, True)
        assert shown["reason"] and shown["message"] and shown["attempts"] == 1
    assert {found[stage]["document"] for stage in ("chunk", "embed", "index", "intake", "lifecycle")} == {mark}
    assert all(found[stage]["query"] for stage in ("retrieve", "generate", "score", "evaluate"))

    refused = headrace("dlq", "redrive", found["generate"]["id"], code=4)
    assert "ask it again" in refused["message"]
    ids = [shown["id"] for shown in found.values()]
    await_counted(stack, len(headrace("dlq", "list", "--limit", "1000")["dead_letters"]))
    assert headrace("dlq", "discard", *ids) == {"n": len(ids)}
    still_open = {each["id"] for each in headrace("dlq", "list", "--limit", "1000")["dead_letters"]}
    assert not still_open & set(ids)
    await_counted(stack, len(still_open))


def test_a_document_whose_cause_was_mended_becomes_searchable(
    stack: Stack, acme: Api, headrace: Headrace, produce: Callable[..., None]
) -> None:
    text = json.dumps({"text": "The mendedcause bittern booms at dusk."}).encode()
    name = hashlib.sha256(text).hexdigest()
    produce(INGEST, "acme/mended", b"{}", hr_blob=name.encode())
    acme.await_status("mended", "failed")
    [letter] = awaited(headrace, "--document", "mended")
    assert (letter["stage"], letter["reason"]) == ("intake", "blob_missing")

    store(Path(stack.environment["HEADRACE_OBJECTS_DIR"]), name, text)
    (sent,) = headrace("dlq", "redrive", "--document", "mended", "--yes")["dead_letters"]

    assert sent["state"] == "redriven"
    assert acme.await_status("mended", "indexed")["latest_version"] == 1
    acme.find("mendedcause bittern", "mended")

    headrace("dlq", "redrive", letter["id"])
    acme.put({"id": "behind-mended", "text": "Behind it."})
    assert acme.document("mended").json()["latest_version"] == 1


def store(folder: Path, name: str, data: bytes) -> None:
    """Put into the object store what it had lost."""
    assert asyncio.run(FolderBlobs(folder).put(data)) == name


def test_a_document_that_was_corrected_meanwhile_is_not_overtaken(
    acme: Api, headrace: Headrace, produce: Callable[..., None]
) -> None:
    produce(INGEST, "acme/corrected", b'{"text": "  "}')
    acme.await_status("corrected", "failed")
    [letter] = awaited(headrace, "--document", "corrected")
    acme.put({"id": "corrected", "text": "The correctedtext plover runs."})

    headrace("dlq", "redrive", letter["id"])
    acme.put({"id": "behind-corrected", "text": "Behind it."})

    shown = acme.document("corrected").json()
    assert (shown["status"], shown["latest_version"]) == ("indexed", 1)
    acme.find("correctedtext plover", "corrected")


def test_a_stages_own_record_is_done_again_from_the_log(
    acme: Api, headrace: Headrace, produce: Callable[..., None]
) -> None:
    acme.put({"id": "embedded-again", "text": "The doneagain dotterel rests."})
    produce(CHUNKS.named("structure"), "acme/embedded-again", b"poison", hr_version=b"1")
    [letter] = awaited(headrace, "--document", "embedded-again")
    before = acme.document("embedded-again").json()

    (sent,) = headrace("dlq", "redrive", letter["id"])["dead_letters"]

    assert (letter["stage"], sent["state"]) == ("embed", "redriven")
    end = time.monotonic() + 30
    while (after := acme.document("embedded-again").json())["updated_at"] == before["updated_at"]:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert (after["status"], after["latest_version"]) == ("indexed", 1)
    acme.find("doneagain dotterel", "embedded-again")


def test_the_owner_tries_again_and_another_tenant_cannot(
    acme: Api, globex: Api, headrace: Headrace, produce: Callable[..., None]
) -> None:
    produce(INGEST, "acme/mine", b'{"text": ""}')
    acme.await_status("mine", "failed")
    [letter] = awaited(headrace, "--document", "mine")

    assert headrace("dlq", "list", "--document", "mine", key="globex-key")["dead_letters"] == []
    assert headrace("dlq", "redrive", letter["id"], key="globex-key", code=4)["status"] == 404
    assert headrace("retry", "mine", key="globex-key", code=4)["status"] == 404
    assert headrace("retry", "mine", key="acme-key")["how"] == "redrive"
    again = awaited(headrace, "--document", "mine")
    assert again[0]["id"] != letter["id"] and again[0]["attempts"] == 1
