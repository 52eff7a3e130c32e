"""What follows an answer: scores in the open stream, feedback, and the question's row for trainers."""

import time
from typing import Any

import msgspec
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.events import Answer, Citation, EvalLogged, Hit, QueryFinished, QueryScored
from schemas.ids import new_query_id
from schemas.topics import EVALS, RESULTS, SCORES, Topic
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


def last_record(stack: Stack, topic: Topic, query: str) -> bytes | None:
    """Read the last record of a question in a topic."""
    consumer = Consumer({"bootstrap.servers": stack.kafka, "group.id": "trainer", "log_level": 0})
    last = None
    try:
        for partition in range(topic.partitions):
            _, end = consumer.get_watermark_offsets(TopicPartition(topic.name, partition), timeout=10)
            consumer.assign([TopicPartition(topic.name, partition, 0)])
            place = 0
            while place < end:
                message = consumer.poll(10)
                assert message is not None, f"{topic.name}-{partition} ends at {end}; nothing came after {place}"
                place = (message.offset() or 0) + 1
                if message.key() == query.encode():
                    last = message.value()
    finally:
        consumer.close()
    return last


def last_eval(stack: Stack, query: str) -> EvalLogged | None:
    """Read the row of a question as trainers do."""
    record = last_record(stack, EVALS, query)
    return None if record is None else msgspec.json.decode(record, type=EvalLogged)


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


def test_an_answer_by_a_model_is_scored_by_an_encoder_that_is_loaded_for_it(stack: Stack, acme: Api) -> None:
    acme.put({"id": "scores/lighthouse.txt", "text": TEXT})
    acme.find("Ostholm lighthouse lamp", "scores/lighthouse.txt")
    [row] = stack.sql("SELECT chunk_id FROM chunks_g1 WHERE document = 'scores/lighthouse.txt'")
    said = "At Ostholm the lighthouse shines 24 miles out to sea. [1] Bananas are rich in potassium. [1]"
    result = QueryFinished(
        query=new_query_id(),
        tenant="acme",
        text=QUESTION,
        outcome="done",
        attempt=1,
        generation="g1",
        reply_partition=0,
        asked_ms=1,
        finished_ms=2,
        hits=[Hit(document="scores/lighthouse.txt", version=1, chunk=row["chunk_id"], score=0.9)],
        answer=Answer(
            text=said,
            citations=[
                Citation(marker=1, document="scores/lighthouse.txt", chunk=row["chunk_id"], quote=TEXT, start=0, end=62)
            ],
            provider="openai",
        ),
    )

    producer = Producer({"bootstrap.servers": stack.kafka})
    producer.produce(RESULTS.name, key=result.query, value=msgspec.json.encode(result))
    assert producer.flush(10) == 0

    end = time.monotonic() + WAIT_S
    while (record := last_record(stack, SCORES, result.query)) is None:
        assert time.monotonic() < end, "no scores came"
        time.sleep(0.1)
    scores = msgspec.json.decode(record, type=QueryScored).scores
    assert (scores.n_sentences, scores.n_supported) == (2, 1)
    assert scores.faithfulness is not None
    assert scores.relevance is not None
    assert 0.3 < scores.faithfulness < 0.7
    assert 0.5 < scores.relevance < 1
