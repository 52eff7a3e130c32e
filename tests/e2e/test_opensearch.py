"""Generations that are searched in OpenSearch: their whole life, and what becomes of them when it fails."""

import signal
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import psutil
import pytest
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner, Result

from headrace.cli import app
from headrace.local import stack as local
from headrace.local.table import OPENSEARCH_WORKER, PROCESSES, Options
from tests.e2e.api import Api
from tests.e2e.api import until as until_within
from tests.stack import Stack, running

pytestmark = pytest.mark.timeout(400)
N = 6
SECONDS = 120.0
until = partial(until_within, seconds=SECONDS)
BOTH = {"lexical": "opensearch", "vectors": "opensearch"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # not nice: on a machine that does other things, too, what is tested shall come to an end
    options = Options(opensearch=True, processes=(*PROCESSES, OPENSEARCH_WORKER), env={"HEADRACE_REPLAY_NICE": "0"})
    with running(tmp_path_factory.mktemp("opensearch"), options) as stack:
        yield stack


@pytest.fixture(scope="module")
def acme(stack: Stack) -> Api:
    return Api.connect(stack.url, "acme-key")


@pytest.fixture(scope="module")
def board(stack: Stack) -> Api:
    return Api.connect(stack.url, "acme-board-key")


@pytest.fixture(scope="module")
def globex(stack: Stack) -> Api:
    return Api.connect(stack.url, "globex-key")


@pytest.fixture(scope="module")
def operator(stack: Stack) -> Api:
    return Api.connect(stack.url, "operator-key")


def hall(number: int, bar: int, **attributes: Any) -> dict[str, Any]:
    text = f"# Hall {number}\n\nThe valve of hall {number} closes at {bar} bar.\n\nHall {number} has a crane."
    return {"id": f"hall-{number}.md", "text": text, "metadata": {"floor": number}, **attributes}


def headrace(stack: Stack, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--url", stack.url, "--api-key", "operator-key"])


def done(stack: Stack, *arguments: str) -> None:
    result = headrace(stack, *arguments)
    assert result.exit_code == 0, result.output


def shown(operator: Api, name: str) -> dict[str, Any]:
    response = operator.client.get(f"/v1/generations/{name}")
    assert response.status_code == 200, response.text
    return dict(response.json())


def is_covered(now: dict[str, Any]) -> bool:
    return bool(now["n_covered"] == now["n_documents"])


def answered_by(stack: Stack, acme: Api, text: str) -> tuple[str, str]:
    """Ask; return the generation that answered, and the answer."""
    answer = acme.query(text)
    [[generation]] = stack.sql("SELECT generation FROM queries WHERE id = $1", answer["id"])
    return str(generation), str(answer["answer"])


def serves(stack: Stack, acme: Api, name: str) -> None:
    until(
        lambda: answered_by(stack, acme, "At which pressure does the valve of hall 3 close?")[0],
        lambda generation: bool(generation == name),
        f"{name} does not answer",
    )


def indices(stack: Stack) -> set[str]:
    url = stack.environment["HEADRACE_OPENSEARCH_URL"]
    return {each["index"] for each in httpx.get(f"{url}/_cat/indices", params={"format": "json"}, timeout=60).json()}


def groups(stack: Stack, prefix: str) -> set[str]:
    # kept, for one that is let go answers nothing
    admin = AdminClient({"bootstrap.servers": stack.kafka})
    listed = admin.list_consumer_groups().result(30)
    return {each.group_id for each in listed.valid if each.group_id.startswith(prefix)}


def expect_filters_and_rights(acme: Api, board: Api, globex: Api) -> None:
    for ranker in ("dense", "lexical"):
        only: dict[str, Any] = {"rankers": [ranker], "filters": {"floor": 4}}
        acme.find("valve of the hall", "hall-4.md", **only)
        assert {hit["document_id"] for hit in acme.search("valve of the hall", **only)} == {"hall-4.md"}
        board.find("valve of the secret hall", "secret.md", rankers=[ranker])
        assert "secret.md" not in {hit["document_id"] for hit in acme.search("valve secret", rankers=[ranker])}
        globex.find("valve of the foreign hall", "foreign.md", rankers=[ranker])
        assert {hit["document_id"] for hit in globex.search("valve of hall 4", rankers=[ranker])} == {"foreign.md"}


def test_a_generation_in_opensearch_lives_its_whole_life(
    stack: Stack, acme: Api, board: Api, globex: Api, operator: Api
) -> None:
    acme.put(*(hall(number, 10 + number) for number in range(N)))
    board.put({"id": "secret.md", "text": "The valve of the secret hall closes at 99 bar.", "acl": ["board"]})
    globex.put({"id": "foreign.md", "text": "The valve of the foreign hall closes at 55 bar."})
    first = shown(operator, "g1")
    assert (first["lexical"], first["vectors"]) == ("opensearch", "pgvector")
    expect_filters_and_rights(acme, board, globex)

    done(stack, "generation", "create", "g2", "--lexical", "opensearch", "--vectors", "opensearch")
    acme.put(hall(1, 101), hall(N, 77))
    acme.settle(acme.delete("hall-2.md"))
    until(lambda: shown(operator, "g2"), is_covered, "g2 is not covered")
    assert {key: shown(operator, "g2")[key] for key in BOTH} == BOTH
    assert {each for each in indices(stack) if "g2" in each} == {"headrace-g2-2"}
    verified = headrace(stack, "verify", "--json")
    assert verified.exit_code == 0, verified.output

    done(stack, "generation", "switch", "g2", "--force", "--wait")
    serves(stack, acme, "g2")
    expect_filters_and_rights(acme, board, globex)
    acme.put(hall(3, 303))
    acme.settle(acme.delete("hall-5.md"))
    for ranker in ("dense", "lexical"):
        acme.find("valve of hall 3 closes at 303 bar", "hall-3.md", rankers=[ranker])
        acme.find("valve of hall 5", "hall-5.md", gone=True, rankers=[ranker])
    # the delete and the update have reached the index itself, not only the fence
    until(lambda: shown(operator, "g2"), is_covered, "g2 does not follow")
    _, answer = answered_by(stack, acme, "At which pressure does the valve of hall 3 close?")
    assert "303 bar" in answer

    done(stack, "generation", "rollback", "--wait")
    serves(stack, acme, "g1")
    until(lambda: shown(operator, "g1"), is_covered, "g1 has not followed")
    acme.find("valve of hall 3 closes at 303 bar", "hall-3.md", rankers=["lexical"])
    done(stack, "generation", "drop", "g2", "--wait", "--timeout", str(SECONDS))
    assert not {each for each in indices(stack) if "g2" in each}
    assert groups(stack, "rag.index.g2") == set()
    assert stack.sql("SELECT count(*) FROM sunk WHERE generation = 'g2'")[0][0] == 0


def test_an_index_that_was_lost_is_noticed_and_rebuilt(stack: Stack, acme: Api, operator: Api) -> None:
    acme.put(hall(7, 17))
    until(lambda: shown(operator, "g1"), is_covered, "g1 is not covered")
    url = stack.environment["HEADRACE_OPENSEARCH_URL"]
    assert httpx.delete(f"{url}/headrace-g1-2", timeout=60).status_code == 200

    until(lambda: shown(operator, "g1"), lambda now: not is_covered(now), "nobody noticed")
    verified = headrace(stack, "verify", "--json")
    assert verified.exit_code == 1, verified.output
    assert "view_behind" in verified.output
    done(stack, "rebuild", "--sink", "opensearch", "--generation", "g1")
    assert is_covered(shown(operator, "g1"))
    acme.find("valve of hall 7", "hall-7.md", rankers=["lexical"])
    assert headrace(stack, "verify").exit_code == 0


def test_while_opensearch_is_silent_vectors_answer_and_the_reader_is_told(stack: Stack, acme: Api) -> None:
    acme.put(hall(8, 18))
    acme.find("valve of hall 8", "hall-8.md", rankers=["lexical"])
    [pid] = [part.pid for part in local.status(stack.home).parts if part.name == "opensearch"]
    assert pid is not None
    process = psutil.Process(pid)
    process.send_signal(signal.SIGSTOP)
    try:
        response = acme.client.post("/v1/search", json={"query": "valve of hall 8", "top_k": 3})
        sources = next(data for name, data in acme.stream("Where is the valve of hall 8?") if name == "sources")
    finally:
        process.send_signal(signal.SIGCONT)

    assert response.json()["without"] == ["lexical"]
    assert "hall-8.md" in {hit["document_id"] for hit in response.json()["hits"]}
    assert sources["without"] == ["lexical"]
    assert stack.metric("worker-query", "headrace_searches_without_total", ranker="lexical") >= 2
    until(
        lambda: acme.client.post("/v1/search", json={"query": "valve of hall 8"}).json()["without"],
        lambda without: without == [],
        "it does not come back",
    )
