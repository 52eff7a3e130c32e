"""What the runtime and the handlers do, as Prometheus reads it."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from schemas.events import Answer, LifecycleChanged, QueryFinished, QueryScored, Scores
from schemas.topics import LIFECYCLE, SCORES
from streams.adapters.prometheus_observer import PrometheusObserver, PrometheusWriting, Watched
from streams.runtime.observer import Sample
from streams.runtime.record import Flush, Inbound, Origin, Outbound
from tests.contract.factories import embedded
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


def test_what_becomes_of_records_is_counted_by_stage() -> None:
    counted = {
        ("headrace_records_processed_total", ()): 1.0,
        ("headrace_handler_seconds_sum", ()): 0.25,
        ("headrace_records_retried_total", ()): 2.0,
        ("headrace_records_dead_lettered_total", (("reason", "bug"),)): 1.0,
    }
    before = {(name, labels): sample(name, stage="s1", **dict(labels)) for name, labels in counted}
    observer = PrometheusObserver()

    observer.processed("s1", 0.25)
    observer.retried("s1")
    observer.retried("s1")
    observer.dead_lettered("s1", "bug")

    after = {(name, labels): sample(name, stage="s1", **dict(labels)) for name, labels in counted}
    assert {each: after[each] - before[each] for each in counted} == counted


SAMPLE = Sample(
    group="rag.s2",
    lag={("rag.t", 0): 7, ("rag.t", 1): 0},
    in_flight=3,
    in_flight_bytes=99,
    oldest_unfinished_s=4.5,
    gaps=2,
    repeats=1,
)


def test_the_state_of_a_stage_is_shown_and_partitions_that_it_gave_away_are_not() -> None:
    observer = PrometheusObserver()

    observer.sampled("s2", SAMPLE)

    names = ("in_flight_records", "in_flight_bytes", "oldest_unfinished_seconds", "offset_gaps", "records_repeated")
    assert [sample(f"headrace_{name}", stage="s2", group="rag.s2") for name in names] == [3, 99, 4.5, 2, 1]
    assert lag("s2", 0) == 7
    assert lag("s2", 1) == 0

    observer.sampled("s2", replace(SAMPLE, lag={("rag.t", 1): 5}, oldest_unfinished_s=0.0))

    assert lag("s2", 0) is None
    assert lag("s2", 1) == 5
    assert sample("headrace_oldest_unfinished_seconds", stage="s2", group="rag.s2") == 0


def test_two_groups_of_a_stage_are_told_apart() -> None:
    observer = PrometheusObserver()

    observer.sampled("s5", replace(SAMPLE, group="rag.s5.g1"))
    observer.sampled("s5", replace(SAMPLE, group="rag.s5.g2", lag={("rag.t", 0): 400}, in_flight=8))

    assert [lag("s5", 0, f"rag.s5.{name}") for name in ("g1", "g2")] == [7, 400]
    in_flight = [sample("headrace_in_flight_records", stage="s5", group=f"rag.s5.{name}") for name in ("g1", "g2")]
    assert in_flight == [3, 8]


def lag(stage: str, partition: int, group: str = "rag.s2") -> float | None:
    labels = {"stage": stage, "group": group, "topic": "rag.t", "partition": str(partition)}
    return REGISTRY.get_sample_value("headrace_lag_records", labels)


def test_a_part_is_away_until_it_is_back_and_the_time_is_counted() -> None:
    observer = PrometheusObserver()

    observer.went("p1")
    assert (sample("headrace_part_away", part="p1"), sample("headrace_part_away_seconds_total", part="p1")) == (1, 0)

    observer.came_back("p1", 2.5)
    assert (sample("headrace_part_away", part="p1"), sample("headrace_part_away_seconds_total", part="p1")) == (0, 2.5)


def test_claims_tokens_and_stops_are_counted() -> None:
    counted = [
        ("headrace_claims_total", {"how": "taken_over"}),
        ("headrace_tokens_told_total", {}),
        ("headrace_writings_stopped_total", {"why": "cancelled"}),
        ("headrace_cancel_seconds_sum", {}),
    ]
    before = [sample(name, **labels) for name, labels in counted]
    writing = PrometheusWriting()

    writing.claimed("taken_over")
    writing.told()
    writing.stopped("cancelled", 0.5)

    after = [sample(name, **labels) for name, labels in counted]
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1, 1, 0.5]


@pytest.mark.parametrize(
    ("status", "reissue", "n_superseded", "n_searchable"),
    [("indexed", None, 0, 1), ("indexed", 1, 0, 0), ("superseded", None, 1, 0), ("embedded", None, 0, 0)],
)
async def test_versions_are_counted_as_superseded_or_by_their_time_to_searchable(
    status: str, reissue: int | None, n_superseded: int, n_searchable: int
) -> None:
    names = ("headrace_time_to_searchable_seconds_count", "headrace_time_to_searchable_seconds_sum")
    before = [sample(name) for name in names]
    superseded = sample("headrace_records_superseded_total", stage="s3")

    async def handler(record: Inbound[Any]) -> AsyncIterator[Outbound | Flush]:
        event = LifecycleChanged(tenant="acme", document="a", version=1, status=status, stage="index", at_ms=1)
        yield Outbound(topic=LIFECYCLE, key=b"acme/a", event=event)

    record = Inbound(
        key=b"acme/a",
        event=msgspec.structs.replace(embedded(1, {}), submitted_ms=int(time.time() * 1000) - 60_000),
        raw=b"{}",
        origin=Origin(topic="rag.embeddings.g1.v1", topic_id="t", partition=0, offset=0),
        timestamp_ms=0,
        reissue=reissue,
    )
    assert len([output async for output in Watched(stage="s3", handler=handler)(record)]) == 1

    n, seconds = (sample(name) - old for name, old in zip(names, before, strict=True))
    assert n == n_searchable
    assert 60 * n_searchable <= seconds <= 70 * n_searchable
    assert sample("headrace_records_superseded_total", stage="s3") - superseded == n_superseded
