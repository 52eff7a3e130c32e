"""A gate on a whole stack: the generation that answers is judged against itself by the worker that searches it."""

import json
import time
import uuid
from typing import Any

from tests.e2e.api import Api
from tests.stack import Stack

N = 20


def ask(stack: Stack, *questions: dict[str, Any], margin: float = 0.25) -> str:
    """Ask for a gate of g1 against g1, which the gateway would refuse."""
    id = str(uuid.uuid4())
    sets = json.dumps({"golden": False, "logged": 3, "labelled": questions})
    stack.sql(
        "INSERT INTO gates (id, candidate, base, tenant, margin, sets) VALUES ($1, 'g1', 'g1', 'acme', $2, $3)",
        id,
        margin,
        sets,
    )
    return id


def labelled(n: int) -> dict[str, Any]:
    return {
        "set": "own",
        "kind": "labelled",
        "tenant": "acme",
        "text": f"What does the valve of hall {n} close at?",
        "relevant": {f"gate/hall-{n}.md": 1},
        "passage": f"closes at {n + 40} bar",
    }


def verdict(api: Api, seconds: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        found = dict(api.client.get("/v1/generations/g1/gate").json())
        if found["state"] not in ("asked", "running"):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def test_questions_of_a_live_stack_are_judged(stack: Stack, acme: Api) -> None:
    operator = Api.connect(stack.url, "operator-key")
    acme.put(*({"id": f"gate/hall-{n}.md", "text": f"The valve of hall {n} closes at {n + 40} bar."} for n in range(N)))
    acme.query("What does the valve of hall 3 close at?")
    id = ask(stack, *map(labelled, range(N)), labelled(N))

    found = verdict(operator)

    assert (found["id"], found["state"], found["why"]) == (id, "finished", None)
    own, logged = found["report"]["sets"]
    assert (found["verdict"], found["passed"], found["progress"]["n_asked"]) == ("equal", True, N + 1 + logged["n"])
    assert (own["n"], own["left_out"]) == (N, {"none of its relevant documents is there": 1})
    measures = {each["name"]: each for each in own["measures"]}
    assert measures["ndcg"]["base"] > 0.9
    assert measures["passage"]["base"] == 1
    assert logged["kind"] == "logged"
    assert 1 <= logged["n"] <= 3  # others ask the same stack
    assert logged["likeness"] == {"overlap": 1, "agreement": 1}
    page = operator.client.get("/v1/generations/g1/gate/report")
    assert "Equal: it may answer" in page.text
