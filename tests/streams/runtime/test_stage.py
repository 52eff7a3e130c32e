"""Stages: which ones there may not be."""

import pytest

from schemas.events import QueryAsked, Reply
from schemas.topics import ANSWERS, DEAD_LETTERS, QUERIES
from tests.streams.runtime.factories import stage


def test_each_source_has_its_own_event() -> None:
    subject = stage(more_topics=(ANSWERS,))
    assert (subject.event_of(QUERIES.name), subject.event_of(ANSWERS.name)) == (QueryAsked, Reply)


def test_a_stage_that_does_not_decode_has_no_events() -> None:
    assert stage(more_topics=(ANSWERS,), decode=False).event_of(ANSWERS.name) is None


def test_a_source_without_an_event_must_not_be_decoded() -> None:
    with pytest.raises(ValueError, match=r"topic 'rag.chunk.dlq.v1' has no event type; set decode=False"):
        stage(more_topics=(DEAD_LETTERS.named("chunk"),))


def test_a_source_may_be_given_once() -> None:
    with pytest.raises(ValueError, match="each may be given once"):
        stage(more_topics=(QUERIES,))
