from collections.abc import AsyncIterator

from prometheus_client import REGISTRY

from schemas.events import Answer, QueryFinished, QueryScored, Scores
from schemas.topics import SCORES
from streams.adapters.prometheus_observer import Watched
from streams.runtime.record import Flush, Inbound, Origin, Outbound
from tests.streams.score.passages import finished


async def scored(record: Inbound[QueryFinished]) -> AsyncIterator[Outbound | Flush]:
    """A handler that finds every answer faithful, and cannot tell whether it is relevant, half a second later."""
    event = QueryScored(query="q", tenant="acme", attempt=1, scores=Scores(faithfulness=0.75), scored_ms=2_000)
    yield Outbound(topic=SCORES, key=b"q", event=event)


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_scores_and_the_time_that_they_took_are_counted_as_they_go_out() -> None:
    origin = Origin(topic="rag.results.v1", topic_id="t", partition=0, offset=0)
    record = Inbound(key=b"q", event=finished(Answer(text="Yes.")), raw=b"{}", origin=origin, timestamp_ms=0)
    names = ("headrace_answer_score_ratio_sum", "headrace_answer_score_ratio_count")
    before = [sample(name, score="faithfulness") for name in names]
    relevance = sample(names[1], score="relevance")
    seconds = sample("headrace_time_to_scores_seconds_sum")

    outputs = [output async for output in Watched(stage="score", handler=scored)(record)]

    assert len(outputs) == 1
    assert [sample(name, score="faithfulness") for name in names] == [before[0] + 0.75, before[1] + 1]
    assert sample(names[1], score="relevance") == relevance
    assert sample("headrace_time_to_scores_seconds_sum") == seconds + 0.5
