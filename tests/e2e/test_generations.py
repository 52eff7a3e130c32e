"""A whole life of an index generation beside live traffic: made, filled, switched to, rolled back, dropped."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from headrace.cli import app
from headrace.cli.output import ExitCode
from headrace.local.table import Options
from tests.e2e.api import Api
from tests.stack import Stack, running

pytestmark = pytest.mark.timeout(300)
N = 12
SECONDS = 100.0


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


def until(look: Callable[[], Any], wanted: Callable[[Any], bool], what: str) -> Any:
    end = time.monotonic() + SECONDS
    while not wanted(found := look()):
        assert time.monotonic() < end, f"{what}: {found}"
        time.sleep(0.2)
    return found


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


def test_what_cannot_be_made_says_why(stack: Stack, operator: Api) -> None:
    made = headrace(stack, "generation", "create", "g9", "--chunker", "paragraphs")

    assert made.exit_code == 1
    assert "there is no chunker 'paragraphs'" in " ".join(made.output.split())
    assert shown(operator, "g9")["state"] == "failed"
