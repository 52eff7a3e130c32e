"""A sink that has lost something is written again from the embeddings, while nothing is encoded."""

import json
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headrace.cli import app
from headrace.cli.output import ExitCode
from tests.e2e.api import Api, until
from tests.e2e.damage import forget, left_alone
from tests.stack import Stack, running

pytestmark = pytest.mark.timeout(360)
N = 30
QUESTIONS = [f"pressure of hall {number}" for number in range(0, N, 3)]
EXACT = """
SELECT c.chunk_id FROM chunks_g1 c, (SELECT embedding FROM chunks_g1 WHERE chunk_id = $1) AS q
ORDER BY c.embedding <=> q.embedding, c.chunk_id LIMIT 10
"""
"""Without an index: an expression of two columns is none that HNSW knows."""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack in which nobody else has lost anything."""
    with running(tmp_path_factory.mktemp("rebuilt")) as stack:
        yield stack


@pytest.fixture(scope="module")
def acme(own: Stack) -> Api:
    acme = Api.connect(own.url, "acme-key")
    acme.put(*(hall(number, 10 + number) for number in range(N)))
    acme.put(hall(3, 303))
    acme.settle(acme.delete("hall-0.md"))
    # deleted is what nobody finds any more; its rows go after that
    until(lambda: own.sql("SELECT 1 FROM chunks_g1 WHERE document = 'hall-0.md'"), operator.not_, "rows", seconds=60)
    return acme


def hall(number: int, bar: int) -> dict[str, Any]:
    text = f"# Hall {number}\n\nThe valve of hall {number} closes at {bar} bar.\n\nIts crane lifts {number} tonnes."
    return {"id": f"hall-{number}.md", "text": text, "metadata": {"number": number}}


def where(stack: Stack) -> tuple[str, ...]:
    return "--url", stack.url, "--api-key", "operator-key"


def rebuilt(stack: Stack, sink: str, *more: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["rebuild", "--sink", sink, "--timeout", "90", "--json", *more, *where(stack)])
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.output))


def table(stack: Stack) -> list[tuple[Any, ...]]:
    return [
        tuple(row)
        for row in stack.sql(
            "SELECT chunk_id, tenant, document, ordinal, text, start_char, end_char, headings, n_tokens, sentences, "
            "sentence_vectors, collection, metadata, acl, page, embedding::text FROM chunks_g1 ORDER BY chunk_id"
        )
    ]


def nearest(stack: Stack) -> dict[str, list[str]]:
    ids = [row["chunk_id"] for row in stack.sql("SELECT chunk_id FROM chunks_g1 ORDER BY chunk_id LIMIT 10")]
    return {id: [row["chunk_id"] for row in stack.sql(EXACT, id)] for id in ids}


def hits(acme: Api) -> list[list[str]]:
    return [[hit["document_id"] for hit in acme.search(text, rankers=["dense"])] for text in QUESTIONS]


def test_a_table_that_was_dropped_comes_back_row_for_row_without_the_encoder(own: Stack, acme: Api) -> None:
    before, exact, found = table(own), nearest(own), hits(acme)
    encoded = own.encoded_chunks()
    own.sql("DROP TABLE chunks_g1")
    refused = CliRunner().invoke(app, ["verify", *where(own)])
    assert refused.exit_code == 1
    assert "headrace rebuild --sink pgvector" in " ".join(refused.output.split())

    told = rebuilt(own, "pgvector")

    assert (told["generation"], told["state"]) == ("g1", "finished")
    assert told["progress"]["n_incomplete"] == told["progress"]["n_unreadable"] == 0
    assert told["progress"]["n_passed"] == told["progress"]["n_offsets"] > N
    assert table(own) == before
    assert nearest(own) == exact
    assert hits(acme) == found
    assert own.encoded_chunks() == encoded
    assert "303 bar" in acme.query("At which pressure does the valve of hall 3 close?")["answer"]
    # the next version is written to the new table
    acme.put(hall(4, 404))
    acme.find("valve of hall 4 closes at 404 bar", "hall-4.md")


def test_rows_that_are_wrong_are_written_again_and_strangers_go(own: Stack, acme: Api) -> None:
    acme.find("valve of hall 5", "hall-5.md")
    before = table(own)
    own.sql("UPDATE chunks_g1 SET text = 'altered', acl = '{nobody}' WHERE document = 'hall-5.md'")
    own.sql("DELETE FROM chunks_g1 WHERE document = 'hall-6.md'")
    own.sql("UPDATE chunks_g1 SET document = 'stranger' WHERE document = 'hall-7.md'")

    rebuilt(own, "pgvector", "--generation", "g1")

    assert table(own) == before


def test_a_lexical_view_that_lost_a_document_is_built_anew_beside_itself(own: Stack, acme: Api) -> None:
    acme.find("valve of hall 8", "hall-8.md", rankers=["lexical"])
    [view] = own.sql("SELECT worker FROM lexical_views")
    folder = Path(view["worker"].split(":", 1)[1])
    with left_alone(own, "worker-query"):
        forget(folder / "structure" / "index", "acme/hall-8.md")
    acme.find("valve of hall 8", "hall-8.md", gone=True, rankers=["lexical"])

    told = rebuilt(own, "tantivy")

    assert told["progress"] == {"n_views": 1, "n_done": 1, "gone": []}
    acme.find("valve of hall 8", "hall-8.md", rankers=["lexical"])
    assert sorted(path.name for path in folder.iterdir()) == ["structure"]
    # and it goes on with its topic
    acme.put(hall(9, 909))
    acme.find("closes at 909 bar", "hall-9.md", rankers=["lexical"])


def test_a_sink_that_is_not_searched_is_said(own: Stack, acme: Api) -> None:
    done = CliRunner().invoke(app, ["rebuild", "--sink", "opensearch", "--timeout", "60", *where(own)])

    assert done.exit_code == ExitCode.REFUSED
    assert "not in opensearch" in " ".join(done.output.split())
