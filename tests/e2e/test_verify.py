"""Drift is planted into a real stack, found by verification, and mended by re-issue alone."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from headrace.cli import app
from schemas.topics import CHUNKS, DOCUMENTS, EMBEDDINGS, Topic
from tests.e2e.api import Api
from tests.stack import Stack, running

N_PARAGRAPHS = 12
ORPHAN = (
    "INSERT INTO chunks_g1 SELECT md5($1), tenant, 'orphan', ordinal, text, start_char, end_char, headings, n_tokens,"
    " sentences, sentence_vectors, collection, metadata, acl, page, embedding FROM chunks_g1"
    " WHERE document = $1 AND ordinal = 0"
)
EXTRA = ORPHAN.replace("'orphan'", "document").replace("ordinal, text", "ordinal + 99, text")

PLANTED: dict[str, str] = {
    "chunks_missing": "DELETE FROM chunks_g1 WHERE document = $1 AND ordinal = 1",
    "chunks_left_over": EXTRA,
    "chunks_altered": "UPDATE chunks_g1 SET text = 'altered' WHERE document = $1 AND ordinal = 1",
    "vectors_altered": "UPDATE chunks_g1 SET embedding = (SELECT embedding FROM chunks_g1 WHERE document = $1"
    " AND ordinal = 0) WHERE document = $1 AND ordinal = 1",
    "attributes_differ": "UPDATE chunks_g1 SET acl = '{nobody}' WHERE document = $1",
    "not_live": "DELETE FROM live WHERE document = $1",
    "live_behind": "UPDATE live SET version = version - 1 WHERE document = $1",
    "status_stuck": "UPDATE documents SET status = 'chunked', status_rank = 2 WHERE document = $1",
    "unknown": "DELETE FROM documents WHERE document = $1",
    "orphaned": ORPHAN,
}
"""Kinds of drift that a statement makes, by which."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack in which nobody else has planted anything."""
    with running(tmp_path_factory.mktemp("verified")) as stack:
        yield stack


def verified(stack: Stack, *arguments: str) -> dict[str, Any]:
    where = ["--json", "--url", stack.url, "--api-key", "operator-key"]
    done = CliRunner().invoke(app, ["verify", *arguments, *where])
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["state"] == "finished", found
    assert done.exit_code == (1 if found["findings"] else 0)
    return found


def kinds(found: dict[str, Any]) -> dict[str, set[str]]:
    kept: dict[str, set[str]] = {}
    for each in found["findings"]:
        kept.setdefault(each["document"], set()).add(each["kind"])
    return kept


def old(stack: Stack) -> None:
    """Let nothing be on its way any more."""
    stack.sql("UPDATE documents SET accepted_at = accepted_at - interval '1 hour'")


def text(name: str) -> str:
    return "\n\n".join(f"# Part {n}\n\nThe {name} heron number{n} stands at weir {n}." for n in range(N_PARAGRAPHS))


@pytest.mark.timeout(300)
def test_planted_drift_is_found_and_mended_and_a_clean_stack_shows_none(own: Stack) -> None:
    acme = Api.connect(own.url, "acme-key")
    documents = [{"id": name, "text": text(name), "content_type": "text/markdown"} for name in (*PLANTED, "fine")]
    acme.put(*documents)
    acme.put(*[{**each, "metadata": {"n": 1.0, "b": [1, "x"]}} for each in documents])
    acme.put({"id": "gone", "text": text("gone")})
    acme.settle(acme.delete("gone"))
    old(own)
    assert verified(own)["findings"] == []

    for document, statement in PLANTED.items():
        own.sql(statement, document)
    own.sql("UPDATE live SET deleted = false WHERE document = 'gone'")
    found = kinds(verified(own))

    missing = {name for name in PLANTED if name not in found.get("orphan" if name == "orphaned" else name, ())}
    assert missing == set()
    assert "deleted_live" in found["gone"]
    assert "fine" not in found

    mended = verified(own, "--repair")
    assert kinds(mended) == found
    assert all(each["reissued_at"] for each in mended["findings"])
    clean(own)
    for name in PLANTED:
        acme.find(f"{name} heron number3", name)
    assert acme.document("gone").status_code == 404
    assert own.rows("acme", "orphan") == []


def clean(stack: Stack) -> None:
    """Wait until what is done again is done, and nothing differs any more."""
    end = time.monotonic() + 90
    while kinds(found := verified(stack)):
        assert time.monotonic() < end, found["findings"]
        old(stack)
    old(stack)
    assert verified(stack)["findings"] == []


@pytest.fixture
def produce(own: Stack) -> Callable[[Topic, str, bytes], None]:
    producer = Producer({"bootstrap.servers": own.kafka, "partitioner": "murmur2_random"})

    def send(topic: Topic, key: str, version: bytes) -> None:
        producer.produce(topic.name, key=key, value=None, headers={"hr_version": version})
        assert producer.flush(20) == 0

    return send


@pytest.mark.timeout(300)
def test_a_log_whose_last_record_is_an_older_one_is_mended(
    own: Stack, produce: Callable[[Topic, str, bytes], None]
) -> None:
    acme = Api.connect(own.url, "acme-key")
    topics = {
        "log_behind": DOCUMENTS,
        "chunks_behind": CHUNKS.named("structure"),
        "embeddings_behind": EMBEDDINGS.named("g1"),
    }
    for name in topics:
        acme.put({"id": name, "text": text(name)})
        acme.put({"id": name, "text": text(name), "title": "again"})
    for name, topic in topics.items():
        produce(topic, f"acme/{name}", b"1")
    time.sleep(2)
    old(own)

    found = kinds(verified(own, "--repair"))

    assert {name for name in topics if name not in found.get(name, ())} == set()
    clean(own)


def test_only_operators_verify(own: Stack) -> None:
    for arguments in (["verify"],):
        done = CliRunner().invoke(app, [*arguments, "--json", "--url", own.url, "--api-key", "acme-key"])
        assert (done.exit_code, json.loads(done.stdout)["status"]) == (4, 403)
