"""What is said of a document changes, and who may read it, without its text and without the encoder."""

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import httpx
from confluent_kafka import Producer
from typer.testing import CliRunner

from headrace.cli import app
from schemas.topics import INGEST
from tests.e2e.api import Api
from tests.stack import Stack

TEXT = "The patched sluice is painted vermilion before the flood season begins."


def patch(api: Api, document: str, **changes: Any) -> httpx.Response:
    headers = {"Content-Type": "application/merge-patch+json"}
    return api.client.patch(f"/v1/documents/{quote(document, safe='')}", json=changes, headers=headers)


def patched(api: Api, document: str, **changes: Any) -> dict[str, Any]:
    """Patch and wait."""
    response = patch(api, document, **changes)
    assert response.status_code == 202, response.text
    [found] = api.settle(response.json())
    assert found["status"] == "indexed", found
    return found


def test_a_change_of_readers_holds_in_every_ranker_and_costs_no_vector(
    stack: Stack, acme: Api, acme_board: Api
) -> None:
    document, asked = "patched/acl.md", "vermilion patched sluice"
    acme.put({"id": document, "text": TEXT, "title": "Sluice", "metadata": {"year": 2026}})
    for ranker in ("dense", "lexical"):
        acme.find(asked, document, rankers=[ranker])
    rows, encoded = stack.rows("acme", document), stack.encoded_chunks()

    response = patch(acme, document, acl=["board"])
    assert response.status_code == 202
    acme_board.settle(response.json())

    for ranker in ("dense", "lexical", "hybrid"):
        acme.find(asked, document, gone=True, rankers=[ranker])
        acme_board.find(asked, document, rankers=[ranker])
    assert acme.document(document).status_code == acme.content(document).status_code == 404
    assert patch(acme, document, acl=None).status_code == 404

    shown = patched(acme_board, document, acl=None)

    for ranker in ("dense", "lexical", "hybrid"):
        acme.find(asked, document, rankers=[ranker])
    assert (shown["latest_version"], shown["live_version"], shown["acl"]) == (3, 3, None)
    assert (shown["title"], shown["metadata"]) == ("Sluice", {"year": 2026})
    assert stack.rows("acme", document) == rows
    assert stack.encoded_chunks() == encoded


def test_conditions_see_patched_metadata_in_every_ranker(stack: Stack, acme: Api) -> None:
    document, asked = "patched/metadata.md", "vermilion patched sluice"
    acme.put({"id": document, "text": TEXT, "collection": "before", "metadata": {"year": 1999, "draft": True}})
    acme.find(asked, document, rankers=["lexical"], filters={"draft": True})
    encoded = stack.encoded_chunks()

    shown = patched(acme, document, metadata={"year": 2027, "draft": None}, collection="after", title="After")

    assert (shown["metadata"], shown["title"], shown["collection"]) == ({"year": 2027}, "After", "after")
    for ranker in ("dense", "lexical"):
        acme.find(asked, document, rankers=[ranker], filters={"year": {"$gt": 2026}}, collection="after")
        acme.find(asked, document, gone=True, rankers=[ranker], filters={"draft": {"$exists": True}})
        acme.find(asked, document, gone=True, rankers=[ranker], collection="before")
    assert stack.encoded_chunks() == encoded


def test_of_patches_that_come_at_once_none_is_lost(stack: Stack, acme: Api) -> None:
    """Over HTTP, and from producers whose partitioners do not agree."""
    document, n = "patched/many.md", 8
    acme.put({"id": document, "text": TEXT})
    encoded = stack.encoded_chunks()
    producer = Producer({"bootstrap.servers": stack.kafka})

    def change(i: int) -> dict[str, Any]:
        return {"metadata": {f"http{i}": i}}

    for i in range(n):
        for partition in (0, 3):
            value = json.dumps({"patch": {"metadata": {f"p{partition}n{i}": i}}})
            producer.produce(INGEST.name, key=f"acme/{document}", value=value, partition=partition)
    with ThreadPoolExecutor(n) as pool:
        receipts = list(pool.map(lambda i: patch(acme, document, **change(i)).json(), range(n)))
    producer.flush(20)
    acme.settle(*receipts)
    end = time.monotonic() + 60
    while (shown := acme.document(document).json())["live_version"] != 1 + 3 * n:
        assert time.monotonic() < end, json.dumps(shown)
        time.sleep(0.05)

    expected = {f"http{i}": i for i in range(n)} | {f"p{p}n{i}": i for p in (0, 3) for i in range(n)}
    assert shown["metadata"] == expected
    assert shown["latest_version"] == 1 + 3 * n
    assert stack.encoded_chunks() == encoded


def test_a_large_file_is_patched_without_being_sent_again(acme: Api) -> None:
    page = f"<html><!-- {'x' * 1_200_000} --><body><p>{TEXT}</p></body></html>"
    document = "patched/large.html"
    acme.put({"id": document, "content": base64.b64encode(page.encode()).decode(), "filename": "large.html"})
    before = acme.document(document).json()

    shown = patched(acme, document, metadata={"checked": True})

    assert shown["metadata"] == {"checked": True}
    assert shown["n_bytes"] == before["n_bytes"] > 1_200_000
    acme.find("vermilion patched sluice", document, filters={"checked": True})


def test_what_is_not_there_is_not_patched_and_the_reason_is_told(stack: Stack, acme: Api, globex: Api) -> None:
    acme.put({"id": "patched/gone.md", "text": TEXT})
    assert patch(globex, "patched/gone.md", title="Ours").status_code == 404
    acme.settle(acme.delete("patched/gone.md"))
    assert patch(acme, "patched/gone.md", title="Back").status_code == 404
    assert patch(acme, "patched/never.md", title="New").status_code == 404

    producer = Producer({"bootstrap.servers": stack.kafka})
    producer.produce(INGEST.name, key="acme/patched/never.md", value=b'{"patch": {"title": "New"}}')
    producer.flush(20)

    shown = acme.await_status("patched/never.md", "failed")
    assert (shown["failure"]["stage"], shown["failure"]["reason"]) == ("intake", "no_document")
    assert patch(acme, "patched/never.md", title="New").status_code == 404


def test_the_command_line_patches_and_searches_by_condition(stack: Stack, acme: Api) -> None:
    document = "patched/cli.md"
    acme.put({"id": document, "text": TEXT, "metadata": {"year": 1999}})

    def headrace(*arguments: str) -> str:
        env = {"HEADRACE_URL": stack.url, "HEADRACE_API_KEY": "acme-key"}
        result = CliRunner().invoke(app, list(arguments), env=env)
        assert result.exit_code == 0, result.output
        return result.stdout

    told = headrace("documents", "patch", document, "--set", "year=2030", "--set", "audience=operators", "--json")
    acme.find("vermilion patched sluice", document, rankers=["lexical"], filters={"audience": "operators"})

    assert json.loads(told)["status"] == "indexed"
    where = ("--where", "year>=2030", "--where", "audience in operators,nobody", "--where", "draft not exists")
    for ranker in ("dense", "lexical"):
        found = json.loads(headrace("search", "vermilion patched sluice", *where, "--ranker", ranker, "--json"))
        assert {hit["document_id"] for hit in found["hits"]} == {document}
