"""Anybody's producer may put documents into the ingest topic; minimal JSON is enough."""

import base64
import json
import subprocess
import time
from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.codec import headers_of
from schemas.topics import DEAD_LETTERS, INGEST
from tests.e2e.api import Api
from tests.stack import Stack
from tests.streams.chunk.files import pdf

Letter = tuple[bytes | None, bytes | None, dict[str, bytes]]
"""Key, value and headers."""


@pytest.fixture
def produce(stack: Stack) -> Callable[..., None]:
    """Produce with a default confluent-kafka producer (its own partitioner)."""
    producer = Producer({"bootstrap.servers": stack.kafka})

    def send(key: str | bytes | None, value: bytes | None, **more: Any) -> None:
        producer.produce(INGEST.name, key=key, value=value, **more)
        assert producer.flush(20) == 0

    return send


def dead_letters(stack: Stack, stage: str) -> list[Letter]:
    """Everything in the dead-letter topic of a stage."""
    consumer = Consumer({"bootstrap.servers": stack.kafka, "group.id": "test", "enable.auto.commit": False})
    partition = TopicPartition(DEAD_LETTERS.named(stage).name, 0, 0)
    consumer.assign([partition])
    _, end = consumer.get_watermark_offsets(partition, timeout=20)
    found: list[Letter] = []
    while len(found) < end:
        message = consumer.poll(10)
        assert message is not None and message.error() is None
        headers = headers_of(cast(Any, message.headers()))
        found.append((cast(Any, message.key()), cast(Any, message.value()), headers))
    consumer.close()
    return found


def test_the_console_producer_of_kafka_itself(stack: Stack, acme: Api) -> None:
    command = [
        *stack.java("org.apache.kafka.tools.ConsoleProducer"),
        *("--bootstrap-server", stack.kafka, "--topic", INGEST.name),
        *("--property", "parse.key=true", "--property", "key.separator=|"),
    ]
    line = f"acme/from-java|{json.dumps({'text': 'The javaconsole heron nests by the weir.'})}\n"

    subprocess.run(command, input=line.encode(), check=True, timeout=60, capture_output=True)

    assert acme.await_status("from-java", "indexed")["content_type"] == "text/plain"
    acme.find("javaconsole heron", "from-java")


def test_a_default_producer_and_a_null_value_that_deletes_everywhere(
    acme: Api, produce: Callable[..., None], stack: Stack
) -> None:
    produce("acme/from-python", json.dumps({"text": "The pythonproducer otter sleeps at noon."}).encode())
    acme.await_status("from-python", "indexed")
    acme.find("pythonproducer otter", "from-python", rankers=["lexical"])
    acme.find("pythonproducer otter", "from-python", rankers=["dense"])

    produce("acme/from-python", None)

    acme.await_status("from-python", "deleted")
    for ranker in ("lexical", "dense", "hybrid"):
        acme.find("pythonproducer otter", "from-python", gone=True, rankers=[ranker])
    assert acme.document("from-python").status_code == 404
    assert acme.content("from-python").status_code == 404
    assert stack.rows("acme", "from-python") == []


def test_bad_records_become_dead_letters_byte_for_byte_and_good_ones_go_on(
    stack: Stack, acme: Api, produce: Callable[..., None]
) -> None:
    bad = {
        b"keyless": (None, b'{"text": "keyless"}'),
        b"not json": ("acme/bad-json", b"{not json"),
        b"not utf-8": ("acme/bad-bytes", b'{"text": "\xff\xfe"}'),
        b"no slash": ("acme-without-slash", b'{"text": "x"}'),
        b"both": ("acme/both", b'{"text": "x", "uri": "https://example.org/x"}'),
        b"file": ("acme/file-uri", b'{"uri": "file:///etc/passwd"}'),
        b"blank": ("acme/blank", b'{"text": "   "}'),
    }
    before = len(dead_letters(stack, "intake"))

    for key, value in bad.values():
        produce(key, value, headers={"mine": b"kept"})
    produce("acme/good", b'{"text": "The goodneighbour crane stands in the reeds."}')

    acme.await_status("good", "indexed")
    failed = acme.await_status("blank", "failed")
    assert failed["failure"]["stage"] == "intake"
    assert failed["failure"]["message"]
    end = time.monotonic() + 20
    while len(letters := dead_letters(stack, "intake")[before:]) < len(bad):
        assert time.monotonic() < end, letters
        time.sleep(0.2)
    expected = {(key.encode() if key else None, value) for key, value in bad.values()}
    assert {(key, value) for key, value, _ in letters} == expected
    assert all(headers["mine"] == b"kept" and headers["hr_dlq_reason"] for _, _, headers in letters)


def test_a_producer_may_send_a_file(acme: Api, produce: Callable[..., None]) -> None:
    content = base64.b64encode(pdf(["Nothing.", "The filesword grebe nests at the weir."])).decode()
    produce("acme/grebe", json.dumps({"content": content, "filename": "grebe.pdf"}).encode())

    document = acme.await_status("grebe", "indexed", "failed")

    assert (document["status"], document["content_type"]) == ("indexed", "application/pdf")
    hit = next(hit for hit in acme.search("filesword grebe") if hit["document_id"] == "grebe")
    assert hit["page"] == 2


def test_a_mistyped_field_is_kept_out_and_warned_about(acme: Api, produce: Callable[..., None]) -> None:
    produce("acme/mistyped", b'{"text": "The mistyped swan.", "acls": ["secret"]}')

    document = acme.await_status("mistyped", "indexed")

    assert "acls" in json.dumps(document["warnings"])


def test_a_foreign_tenant_has_no_right_over_http(stack: Stack, acme: Api, produce: Callable[..., None]) -> None:
    produce("acme/private", b'{"text": "The privateword bittern."}')
    acme.await_status("private", "indexed")
    stranger = Api.connect(stack.url, "not-a-key")

    for response in (stranger.document("private"), stranger.client.post("/v1/search", json={"query": "bittern"})):
        assert response.status_code == 401
        assert response.headers["content-type"].startswith("application/problem+json")


def test_produced_to_searchable_twenty_times(acme: Api, produce: Callable[..., None], record_property: Any) -> None:
    seconds = []
    for n in range(20):
        begun = time.monotonic()
        produce(f"acme/fresh-{n}", json.dumps({"text": f"The freshness kingfisher number fresh{n}x dives."}).encode())
        acme.find(f"fresh{n}x", f"fresh-{n}", rankers=["hybrid"])
        seconds.append(time.monotonic() - begun)

    p95 = sorted(seconds)[18]
    record_property("searchable_p95_s", p95)
    print(f"produced to searchable: p50 {sorted(seconds)[10]:.3f} s, p95 {p95:.3f} s, n=20")
    assert p95 < 5
