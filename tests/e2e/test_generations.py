"""A whole life of an index generation beside live traffic: made, filled, switched to, rolled back, dropped."""

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from headrace.cli import app
from headrace.cli.output import ExitCode
from headrace.local.table import Options
from tests.e2e.api import Api
from tests.e2e.api import until as until_within
from tests.stack import Stack, running

pytestmark = pytest.mark.timeout(300)
N = 12
SECONDS = 100.0
until = partial(until_within, seconds=SECONDS)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    # not nice: on a machine that does other things, too, what is tested shall come to an end
    with running(tmp_path_factory.mktemp("generations"), Options(env={"HEADRACE_REPLAY_NICE": "0"})) as stack:
        yield stack


@pytest.fixture(scope="module")
def acme(stack: Stack) -> Api:
    return Api.connect(stack.url, "acme-key")


@pytest.fixture(scope="module")
def operator(stack: Stack) -> Api:
    return Api.connect(stack.url, "operator-key")


def hall(number: int, bar: int) -> dict[str, str]:
    paragraphs = [f"The valve of hall {number} closes at {bar} bar.", f"Hall {number} has a crane of its own."]
    return {"id": f"hall-{number}.md", "text": f"# Hall {number}\n\n" + "\n\n".join(paragraphs)}


def headrace(stack: Stack, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--url", stack.url, "--api-key", "operator-key"])


def shown(operator: Api, name: str) -> dict[str, Any]:
    response = operator.client.get(f"/v1/generations/{name}")
    assert response.status_code == 200, response.text
    return dict(response.json())


def answered_by(stack: Stack, acme: Api, text: str) -> tuple[str, str]:
    """Ask; return the generation that answered, and the answer."""
    answer = acme.query(text)
    [[generation]] = stack.sql("SELECT generation FROM queries WHERE id = $1", answer["id"])
    return str(generation), str(answer["answer"])


def test_another_chunker_and_embedder_take_over_and_give_back_without_an_upload(
    stack: Stack, acme: Api, operator: Api
) -> None:
    acme.put(*(hall(number, 10 + number) for number in range(N)))
    acme.settle(acme.delete("hall-0.md"))

    made = headrace(
        stack, "generation", "create", "g2", "--chunker", "sentences", "--embedder", "all-MiniLM-L6-v2@int8"
    )
    assert made.exit_code == 0, made.output
    # what changes meanwhile reaches both
    acme.put(hall(1, 101), hall(N, 77))
    acme.settle(acme.delete("hall-2.md"))
    filled = until(
        lambda: shown(operator, "g2"),
        lambda now: now["n_covered"] == now["n_documents"] == N + 1 and now["n_ready"] == now["n_workers"] == 1,
        "g2 is not filled",
    )
    assert filled["dim"] == 384
    generation, answer = answered_by(stack, acme, "At which pressure does the valve of hall 1 close?")
    assert generation == "g1"
    assert "101 bar" in answer

    refused = headrace(stack, "generation", "switch", "g2")
    assert refused.exit_code == ExitCode.REFUSED
    assert "has not passed a gate" in " ".join(refused.output.split())
    switched = headrace(stack, "generation", "switch", "g2", "--force", "--wait")
    assert switched.exit_code == 0, switched.output
    _, answer = until(
        lambda: answered_by(stack, acme, "At which pressure does the valve of hall 12 close?"),
        lambda found: found[0] == "g2",
        "g2 does not answer",
    )
    assert "77 bar" in answer
    assert not any(hit["document_id"] in ("hall-0.md", "hall-2.md") for hit in acme.search("valve of hall 2"))

    [after] = acme.put(hall(3, 303))
    assert after["status"] == "indexed"
    acme.find("valve of hall 3 closes at 303 bar", "hall-3.md")
    assert headrace(stack, "generation", "drop", "g2").exit_code == ExitCode.REFUSED

    stack.sql("DELETE FROM live WHERE generation = 'g1' AND document = 'hall-5.md'")
    refused = headrace(stack, "generation", "rollback", "--wait")
    assert refused.exit_code == 1
    assert "'acme/hall-5.md' version 1, lost" in " ".join(refused.output.split())
    mended = headrace(stack, "verify", "--repair")
    assert mended.exit_code == 1, mended.output

    back = headrace(stack, "generation", "rollback", "--wait")
    assert back.exit_code == 0, back.output
    _, answer = until(
        lambda: answered_by(stack, acme, "At which pressure does the valve of hall 3 close?"),
        lambda found: found[0] == "g1",
        "g1 does not answer",
    )
    assert "303 bar" in answer

    dropped = headrace(stack, "generation", "drop", "g2", "--wait", "--timeout", str(SECONDS))
    assert dropped.exit_code == 0, dropped.output
    [left] = stack.sql("SELECT to_regclass('chunks_g2'), (SELECT count(*) FROM live WHERE generation = 'g2')")
    assert tuple(left) == (None, 0)
    again = headrace(stack, "generation", "create", "g2")
    assert again.exit_code == ExitCode.REFUSED
    verified = headrace(stack, "verify", "--json")
    assert verified.exit_code == 0, verified.output


def fill(stack: Stack, operator: Api, name: str, *options: str) -> None:
    made = headrace(stack, "generation", "create", name, *options)
    assert made.exit_code == 0, made.output
    until(
        lambda: shown(operator, name),
        lambda now: now["n_covered"] == now["n_documents"] > 0 and now["n_ready"] == now["n_workers"] == 1,
        f"{name} is not filled",
    )


def test_a_candidate_is_asked_what_readers_ask_and_nothing_of_it_is_shown(
    stack: Stack, acme: Api, operator: Api
) -> None:
    globex, board = Api.connect(stack.url, "globex-key"), Api.connect(stack.url, "acme-board-key")
    acme.put(*(hall(number, 10 + number) for number in range(20, 24)))
    secret = {"text": "The valve of hall 20 closes at 99 bar, says the board.", "acl": ["board"]}
    acme.put({"id": "secret.md"} | secret)
    globex.put({"id": "theirs.md", "text": "The valve of hall 20 closes at 55 bar in Globex."})
    fill(stack, operator, "g3", "--chunker", "sentences")
    acme.query("What is at hall 20 before the shadow?")
    set_ = headrace(stack, "generation", "shadow", "g3", "--share", "1")
    assert set_.exit_code == 0, set_.output

    asked = {}
    for number in range(20, 24):
        text = f"At which pressure does the valve of hall {number} close?"
        asked[acme.query(text)["id"]] = ("acme", "hall-")
    asked[acme.query("At which pressure does the valve of hall 21 close?", filters={"year": {"$gte": 2000}})["id"]] = (
        "acme",
        "-",
    )
    asked[globex.query("At which pressure does the valve of hall 20 close?")["id"]] = ("globex", "theirs.md")
    by_board = board.query("At which pressure does the valve of hall 20 close?")["id"]
    streamed = acme.stream("At which pressure does the valve of hall 22 close?")
    asked[streamed[0][1]["id"]] = ("acme", "hall-")
    events = [name for name, _ in streamed]
    assert (events[0], events[-1], events.count("sources"), events.count("done")) == ("accepted", "done", 1, 1)

    wanted = len(asked) + 1
    found = until(
        lambda: shown(operator, "g3")["shadow"], lambda now: now["n"] == wanted, "the candidate was not asked"
    )
    assert (found["base"], found["n_failed"], found["n_dropped"]) == ("g1", 0, 0)
    assert {each["name"] for each in found["measures"]} == {"relevance", "faithfulness", "answered"}
    assert all(each["low"] <= each["difference"] <= each["high"] for each in found["measures"])
    assert found["overlap"] > 0.5
    assert stack.metric("worker-query", "headrace_shadows_total", outcome="shadowed") == wanted

    # once each, for whoever asked, and nothing of another tenant or of a group that the asker is not in
    rows = stack.sql("SELECT query::text, state, result FROM shadows WHERE generation = 'g3'")
    kept = {row["query"]: json.loads(row["result"]) for row in rows}
    assert len(rows) == wanted
    assert kept.keys() == asked.keys() | {by_board}
    for query, (tenant, document) in asked.items():
        assert kept[query]["tenant"] == tenant
        for side in ("base", "candidate"):
            sources = [source["document"] for source in kept[query][side]["sources"]]
            assert all(source.startswith(document) for source in sources), sources
            assert bool(sources) is (document != "-")
            assert "99 bar" not in kept[query][side]["answer"]
    assert "secret.md" in [source["document"] for source in kept[by_board]["candidate"]["sources"]]

    # readers have the answers of what answers
    answers = stack.sql("SELECT generation, hits, answer FROM queries WHERE id = ANY($1::uuid[])", list(asked))
    assert {row["generation"] for row in answers} == {"g1"}
    live = {row["chunk_id"] for row in stack.sql("SELECT chunk_id FROM chunks_g1")}
    shown_chunks = {hit["chunk"] for row in answers for hit in json.loads(row["hits"])}
    assert shown_chunks and shown_chunks <= live
    unseen = stack.sql("SELECT count(*) FROM queries WHERE generation = 'g3'")
    assert unseen[0]["count"] == 0

    judged = headrace(
        stack, "generation", "gate", "g3", "--shadowed", "100", "--wait", "--timeout", str(SECONDS), "--json"
    )
    [of_shadow] = json.loads(judged.output)["report"]["sets"]
    assert (of_shadow["name"], of_shadow["n"]) == ("shadowed", wanted)

    ended = headrace(stack, "generation", "shadow", "g3", "--share", "0")
    assert ended.exit_code == 0, ended.output
    acme.query("At which pressure does the valve of hall 23 close?")
    time.sleep(3)
    [count] = stack.sql("SELECT count(*) FROM shadows")
    assert count["count"] == wanted
    dropped = headrace(stack, "generation", "drop", "g3", "--wait", "--timeout", str(SECONDS))
    assert dropped.exit_code == 0, dropped.output


def test_what_cannot_be_made_says_why(stack: Stack, operator: Api) -> None:
    made = headrace(stack, "generation", "create", "g9", "--chunker", "paragraphs")

    assert made.exit_code == 1
    assert "there is no chunker 'paragraphs'" in " ".join(made.output.split())
    assert shown(operator, "g9")["state"] == "failed"
