from typing import Any

from schemas.events import Answer, Filters, QueryFinished, QueryScored, Reply, Scores
from schemas.ids import DocumentId, DocumentKey, QueryId, Tenant
from schemas.topics import ANSWERS, SCORES
from streams.runtime.record import Inbound, Origin, Outbound
from streams.score.handler import Score
from tests.contract.factories import EAST, embedded, key_of, name_of, origin
from tests.doubles.clock import FrozenClock
from tests.doubles.document_store import MemoryDocuments
from tests.doubles.encoder import HashingEncoder
from tests.doubles.generation_store import MemoryGeneration
from tests.doubles.passage_store import MemoryPassages
from tests.doubles.score_store import MemoryScores
from tests.streams.score.passages import cited, finished, hit

STEEL = "The gate is made of steel."
Q1 = QueryId("0197a0c0-0000-7000-8000-000000000001")


async def library(*, acl: list[str] | None = None) -> MemoryPassages:
    """A generation that holds one document of acme with one sentence."""
    documents = MemoryDocuments()
    await documents.assign(key_of(), origin(0), deleted=False, attributes={})
    generation = MemoryGeneration(documents=documents)
    await generation.replace(embedded(1, {STEEL: EAST}, acl=acl))
    return MemoryPassages(generation=generation)


def answered(**fields: Any) -> QueryFinished:
    chunk = name_of(STEEL)
    answer = Answer(text=f"{STEEL} [1]", citations=[cited(1, chunk, STEEL)])
    return finished(answer, hit(chunk, 0.75), **fields)


async def outcome(result: QueryFinished | None, passages: MemoryPassages, scores: MemoryScores) -> list[Outbound]:
    handler = Score(passages=passages, encoder=HashingEncoder(), scores=scores, clock=FrozenClock(ms=1_520))
    where = Origin(topic="rag.results.v1", topic_id="t", partition=0, offset=0)
    record = Inbound(key=b"q", event=result, raw=b"{}", origin=where, timestamp_ms=0)
    return [out async for out in handler(record) if isinstance(out, Outbound)]


async def test_scores_go_to_the_row_then_to_the_reader_then_to_the_scores_topic() -> None:
    good = Scores(faithfulness=1.0, relevance=0.75, n_sentences=1, n_supported=1, scorer="sentences@1")
    scores = MemoryScores(rows={(Q1, "acme"): None})

    to_reader, to_topic = await outcome(answered(attempt=2), await library(), scores)

    assert scores.rows[Q1, "acme"] == good
    assert (to_reader.topic, to_reader.key, to_reader.partition) == (ANSWERS, Q1.encode(), 3)
    assert to_reader.event == Reply(query=Q1, tenant="acme", type="score", attempt=2, seq=-1, scores=good)
    assert (to_topic.topic, to_topic.key, to_topic.partition) == (SCORES, Q1.encode(), None)
    assert to_topic.event == QueryScored(query=Q1, tenant="acme", attempt=2, scores=good, scored_ms=1_520)


async def test_a_result_that_comes_again_gets_the_same_scores_though_its_passages_are_gone() -> None:
    scores, passages = MemoryScores(rows={(Q1, "acme"): None}), await library()
    first = await outcome(answered(), passages, scores)
    key = DocumentKey(Tenant("acme"), DocumentId("guide"))
    version = await passages.generation.documents.assign(key, origin(1), deleted=True, attributes={})
    await passages.generation.remove(key, version.version)
    assert await passages.passages("acme", [name_of(STEEL)], Filters()) == {}

    assert await outcome(answered(), passages, scores) == first


async def test_a_passage_counts_only_for_a_reader_who_may_read_it() -> None:
    passages = await library(acl=["board"])

    for fields, faithfulness in (({"groups": ["board"]}, 1.0), ({}, None), ({"tenant": "globex"}, None)):
        to_reader, _ = await outcome(answered(**fields), passages, MemoryScores())

        assert isinstance(to_reader.event, Reply)
        assert to_reader.event.scores is not None
        assert to_reader.event.scores.faithfulness == faithfulness


async def test_an_abstention_is_told_that_it_has_no_scores() -> None:
    answer = Answer(text="The documents do not say.", abstained=True)

    to_reader, _ = await outcome(finished(answer), await library(), MemoryScores())

    assert isinstance(to_reader.event, Reply)
    assert to_reader.event.scores == Scores(scorer="sentences@1")


async def test_only_answers_are_scored() -> None:
    passages, scores = await library(), MemoryScores(rows={(Q1, "acme"): None})

    assert await outcome(answered(outcome="cancelled"), passages, scores) == []
    assert await outcome(finished(None, outcome="error", error="bug"), passages, scores) == []
    assert await outcome(None, passages, scores) == []
    assert scores.rows == {(Q1, "acme"): None}
