"""One question, from POST to the last SSE event, and the same as one JSON."""

import http.client
import time
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.api import Api
from tests.stack import Stack

TEXT = """# Sluice gates

The sluice gate of the north dam opens at a water level of 4.2 metres.

# Turbines

Turbine number three was installed in 1987 and delivers 12 megawatts.
"""


def names(events: list[tuple[str, dict[str, Any]]]) -> list[str]:
    return [name for name, _ in events]


def test_an_answer_streams_in_order_and_its_citation_opens_the_document(acme: Api) -> None:
    acme.put({"id": "manual/gates.md", "text": TEXT, "content_type": "text/markdown"})
    acme.find("sluice gate north dam", "manual/gates.md")

    events = acme.stream("At which water level does the sluice gate of the north dam open?")

    # the scores come where they are made in time
    kinds = [name for name in names(events) if name != "score"]
    assert kinds[:2] == ["accepted", "sources"]
    assert kinds[-1] == "done"
    assert kinds.count("answer") == 1
    assert set(kinds[2:-2]) == {"token"}
    answer = dict(events)["answer"]
    assert "".join(data["text"] for name, data in events if name == "token") == answer["answer"]
    assert "4.2 metres" in answer["answer"]
    citation = answer["citations"][0]
    assert citation["document_id"] == "manual/gates.md"
    content = acme.content("manual/gates.md").text
    assert content[citation["start"] : citation["end"]] == citation["quote"]


def test_one_json_holds_the_same_answer_and_is_stored(acme: Api) -> None:
    acme.put({"id": "manual/gates.md", "text": TEXT, "content_type": "text/markdown"})
    acme.find("turbine megawatts", "manual/gates.md")

    answer = acme.query("How much power does turbine number three deliver?")

    assert "12 megawatts" in answer["answer"]
    assert set(answer) >= {"id", "answer", "citations", "usage", "latency_ms"}
    stored = acme.client.get(f"/v1/queries/{answer['id']}").json()
    assert stored["answer"] == answer["answer"]


def test_a_question_that_the_documents_do_not_answer_is_declined(acme: Api) -> None:
    acme.put({"id": "manual/gates.md", "text": TEXT, "content_type": "text/markdown"})

    answer = acme.query("Who won the football world cup in 1974?")

    assert answer["abstained"] is True
    assert answer["citations"] == []


def test_a_connection_that_rested_for_a_while_takes_the_next_request(stack: Stack) -> None:
    connection = http.client.HTTPConnection(urlsplit(stack.url).netloc, timeout=10)
    for pause_s in (0, 7):
        time.sleep(pause_s)
        connection.request("GET", "/health")
        assert connection.getresponse().read()
    connection.close()
