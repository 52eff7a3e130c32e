"""Drift is planted into a real stack, found by verification, and mended by re-issue alone."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from backbone.kafka import Publisher
from backbone.settings import WorkerSettings
from headrace.cli import app
from headrace.local.table import Options
from schemas.topics import CHUNKS, DOCUMENTS, EMBEDDINGS, Topic
from streams import wiring
from tests.e2e.api import Api
from tests.e2e.damage import forget, left_alone
from tests.stack import Stack, running

N_PARAGRAPHS = 4
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
    "view_deleted": "UPDATE live SET deleted = true WHERE document = $1",
    "view_differs": "DELETE FROM chunks_g1 WHERE document = $1 AND ordinal = 2",
    "deleted_live": "UPDATE live SET deleted = false WHERE document = $1",
    "live_behind": "UPDATE live SET version = version - 1 WHERE document = $1",
    "status_stuck": "UPDATE documents SET status = 'chunked', status_rank = 2 WHERE document = $1",
    "unknown": "DELETE FROM documents WHERE document = $1",
    "orphaned": ORPHAN,
    "view_behind": "INSERT INTO live (generation, tenant, document, version, deleted, n_chunks)"
    " SELECT generation, tenant, 'ghost', version, deleted, n_chunks FROM live WHERE document = $1",
}
"""Kinds of drift that a statement makes, by which."""

BESIDE = {"orphaned": "orphan", "view_behind": "ghost"}
"""Documents that a statement makes, by the kind of drift that they are."""

OLDER: dict[str, Topic] = {
    "log_behind": DOCUMENTS,
    "chunks_behind": CHUNKS.named("structure"),
    "embeddings_behind": EMBEDDINGS.named("g1"),
}
"""Kinds of drift that an older last record makes, by the topic that holds it."""

KINDS = (*PLANTED, *OLDER)
UNWATCHED = {"HEADRACE_OVERDUE_INTERVAL_MS": "86400000"}
"""Nothing is mended by itself before the tests have found it."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack in which nobody else has planted anything."""
    with running(tmp_path_factory.mktemp("verified"), Options(env=UNWATCHED)) as stack:
        yield stack


@pytest.fixture(scope="module")
def acme(own: Stack) -> Api:
    return Api.connect(own.url, "acme-key")


def verified(stack: Stack, *arguments: str) -> dict[str, Any]:
    where = ["--json", "--url", stack.url, "--api-key", "operator-key"]
    done = CliRunner().invoke(app, ["verify", *arguments, *where])
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["state"] == "finished", found
    assert (found["progress"]["n_views"], found["progress"]["silent_views"]) == (1, [])
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


def fill(acme: Api) -> None:
    """Put two versions of every document, and delete the one of which a delete shall be left undone."""
    names = (*KINDS, "fine")
    documents = [{"id": name, "text": text(name), "content_type": "text/markdown"} for name in names]
    acme.put(*documents)
    acme.put(*[{**each, "metadata": {"n": 1.0, "b": [1, "x"]}} for each in documents])
    acme.settle(acme.delete("deleted_live"))


def plant(stack: Stack) -> None:
    """Make every kind of drift, each in a document of its own."""
    producer = Producer({"bootstrap.servers": stack.kafka, "partitioner": "murmur2_random"})
    for name, topic in OLDER.items():
        producer.produce(topic.name, key=f"acme/{name}", value=None, headers={"hr_version": b"1"})
    assert producer.flush(20) == 0
    for name, statement in PLANTED.items():
        stack.sql(statement, name)


@pytest.mark.timeout(300)
def test_every_kind_of_drift_is_found_and_mended_and_a_clean_stack_shows_none(own: Stack, acme: Api) -> None:
    fill(acme)
    old(own)
    assert verified(own)["findings"] == []

    plant(own)
    time.sleep(2)  # the stages pass over the older records, and say so
    old(own)
    first = verified(own, "--repair")
    found = kinds(first)

    assert {kind for kind in KINDS if kind not in found.get(BESIDE.get(kind, kind), ())} == set()
    assert "fine" not in found
    assert all(each["reissued_at"] for each in first["findings"])
    await_clean(own)
    for name in KINDS:
        if name != "deleted_live":
            acme.find(f"{name} heron number3", name)
    assert acme.document("deleted_live").status_code == 404
    assert own.rows("acme", "orphan") == []


def await_clean(stack: Stack) -> None:
    """Wait until what is done again is done, and nothing differs any more."""
    end = time.monotonic() + 90
    while (found := verified(stack))["findings"]:
        assert time.monotonic() < end, found["findings"]
    old(stack)
    assert verified(stack)["findings"] == []


@pytest.mark.timeout(360)
def test_what_is_overdue_is_done_again_without_anybody_asking(
    own: Stack, acme: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("lost", "left"):
        acme.put({"id": name, "text": text(name)})
    acme.settle(acme.delete("left"))
    own.sql("DELETE FROM live WHERE document = 'lost'")
    own.sql("UPDATE live SET deleted = false WHERE document = 'left'")
    old(own)
    for name, value in own.environment.items():
        monkeypatch.setenv(name, value)

    asyncio.run(look_for_overdue(lambda: not own.sql(UNDONE)))

    assert acme.document("lost").json()["status"] == "indexed"
    assert acme.document("left").status_code == 404
    assert own.sql("SELECT FROM reissues WHERE n > 1") == []


UNDONE = (
    "SELECT FROM coverage WHERE n_covered < n_documents UNION ALL"
    " SELECT FROM live WHERE document = 'left' AND NOT deleted"
)


async def look_for_overdue(is_done: Callable[[], bool]) -> None:
    """Look as the operator stage does, until nothing is overdue any more."""
    settings = WorkerSettings()
    async with Publisher(settings) as publisher, wiring.assembled(settings, publisher) as parts:
        wiring.operator(parts)
        [duty] = [each for each in parts.duties if each.name == "overdue"]
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(is_done):
                await duty.round()
                await asyncio.sleep(0.2)


@pytest.mark.timeout(360)
def test_a_lexical_view_that_lost_a_document_is_named_and_mended(own: Stack, acme: Api) -> None:
    acme.put({"id": "viewed", "text": text("viewed")}, {"id": "seen", "text": text("seen")})
    acme.find("viewed heron", "viewed", rankers=["lexical"])
    [view] = own.sql("SELECT worker FROM lexical_views")
    folder = Path(view["worker"].split(":", 1)[1])

    with left_alone(own, "worker-query"):
        forget(folder / "structure" / "index", "acme/viewed")
    acme.find("viewed heron", "viewed", gone=True, rankers=["lexical"])
    old(own)
    found = verified(own, "--repair")

    assert kinds(found) == {"viewed": {"view_behind"}}
    assert [each["seen_by"] for each in found["findings"]] == [view["worker"]]
    acme.find("viewed heron", "viewed", seconds=30, rankers=["lexical"])
    await_clean(own)


def test_only_operators_verify(own: Stack) -> None:
    done = CliRunner().invoke(app, ["verify", "--json", "--url", own.url, "--api-key", "acme-key"])

    assert (done.exit_code, json.loads(done.stdout)["status"]) == (4, 403)
