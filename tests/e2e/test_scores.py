"""What follows an answer: scores in the open stream, feedback, and the question's row for trainers."""

import time
from typing import Any

import msgspec
from confluent_kafka import Consumer, TopicPartition

from schemas.events import EvalLogged
from schemas.topics import EVALS
from tests.e2e.api import Api
from tests.stack import Stack

TEXT = "The lamp of the Ostholm lighthouse shines for 24 sea miles. It was lit in 1911 for the first time."
QUESTION = "How far does the lamp of the Ostholm lighthouse shine?"
ASKED_MAX = 20
WAIT_S = 30


def scored_stream(api: Api) -> dict[str, list[dict[str, Any]]]:
    """Ask until a stream holds the scores, which come only if they are made within a second; returns data by event."""
    for _ in range(ASKED_MAX):
        events = api.stream(QUESTION)
        if "score" in [name for name, _ in events]:
            assert [name for name, _ in events][-3:] == ["answer", "score", "done"]
            return {name: [data for each, data in events if each == name] for name, _ in events}
    raise AssertionError(f"none of {ASKED_MAX} streams held the scores")


def last_eval(stack: Stack, query: str) -> EvalLogged | None:
    """Read the last record of a question in the evals topic."""
    consumer = Consumer({"bootstrap.servers": stack.kafka, "group.id": "trainer", "log_level": 0})
    last = None
    try:
        for partition in range(EVALS.partitions):
            _, end = consumer.get_watermark_offsets(TopicPartition(EVALS.name, partition), timeout=10)
            consumer.assign([TopicPartition(EVALS.name, partition, 0)])
            place = 0
            while place < end:
                message = consumer.poll(10)
                assert message is not None, f"{EVALS.name}-{partition} ends at {end}; nothing came after {place}"
                place = (message.offset() or 0) + 1
                if message.key() == query.encode():
                    last = msgspec.json.decode(message.value() or b"", type=EvalLogged)
    finally:
        consumer.close()
    return last


def test_an_answer_is_scored_judged_and_logged_for_trainers(stack: Stack, acme: Api, globex: Api) -> None:
    acme.put({"id": "scores/lighthouse.txt", "text": TEXT})
    acme.find("Ostholm lighthouse lamp", "scores/lighthouse.txt")

    told = scored_stream(acme)

    [accepted], [answer], [score] = told["accepted"], told["answer"], told["score"]
    query = accepted["id"]
    assert (score["faithfulness"], score["scorer"]) == (1.0, "sentences@1")
    assert 0.5 < score["relevance"] <= 1
    assert score["n_supported"] == score["n_sentences"] == len(answer["citations"])
    assert acme.client.get(f"/v1/queries/{query}").json()["scores"] == score

    given = {"rating": "down", "comment": "In fog, too?", "correction": "24 sea miles in clear weather."}
    assert globex.client.post(f"/v1/queries/{query}/feedback", json=given).status_code == 404
    assert acme.client.post(f"/v1/queries/{query}/feedback", json=given).status_code == 202

    end = time.monotonic() + WAIT_S
    while (row := last_eval(stack, query)) is None or row.rating is None or row.scorer is None:
        assert time.monotonic() < end, f"the row is still {row}"
        time.sleep(0.1)
    assert (row.tenant, row.question, row.outcome, row.attempt) == ("acme", QUESTION, "done", 1)
    assert (row.faithfulness, row.relevance) == (1.0, score["relevance"])
    assert (row.rating, row.comment, row.correction) == ("down", "In fog, too?", "24 sea miles in clear weather.")
    assert row.revision == 3
    assert "scores/lighthouse.txt" in row.documents
    assert set(row.cited) <= set(row.chunks)
    assert len(row.chunks) == len(row.chunk_scores) == len(row.ranker_scores["dense"])
    assert "shines for 24" not in str(row)
