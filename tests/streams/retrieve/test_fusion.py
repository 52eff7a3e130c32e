import pytest

from schemas.ids import ChunkId
from streams.ports import Candidate
from streams.retrieve.fusion import fuse


def ranking(**scores: float) -> list[Candidate]:
    return [Candidate(chunk=ChunkId(name), score=score) for name, score in scores.items()]


def test_the_lexical_score_counts_as_a_share_of_the_best_one() -> None:
    fused = fuse({"dense": ranking(a=0.8, b=0.6), "lexical": ranking(b=20.0, a=5.0)}, lexical_weight=0.4)

    assert [one.chunk for one in fused] == ["b", "a"]
    assert [one.score for one in fused] == pytest.approx([1.0, 0.9])
    assert fused[0].scores == {"dense": 0.6, "lexical": 20.0}


def test_a_chunk_without_a_cosine_gets_the_lowest_of_those_there_are() -> None:
    fused = fuse({"dense": ranking(a=0.8, b=0.3), "lexical": ranking(c=10.0)}, lexical_weight=0.3)

    assert [(one.chunk, round(one.score, 6)) for one in fused] == [("a", 0.8), ("c", 0.6), ("b", 0.3)]
    assert fused[1].scores == {"lexical": 10.0}


def test_a_ranker_alone_keeps_its_order_and_scores() -> None:
    for name in ("dense", "lexical"):
        fused = fuse({name: ranking(a=1.0, b=7.0)})

        assert [(one.chunk, one.score, dict(one.scores)) for one in fused] == [
            ("b", 7.0, {name: 7.0}),
            ("a", 1.0, {name: 1.0}),
        ]


def test_a_ranker_that_finds_nothing_leaves_the_order_of_the_other() -> None:
    assert [one.chunk for one in fuse({"dense": ranking(a=0.1, b=0.2), "lexical": []})] == ["b", "a"]
    assert [one.chunk for one in fuse({"dense": [], "lexical": ranking(a=1.0, b=2.0)})] == ["b", "a"]
    assert fuse({"dense": [], "lexical": []}) == []


def test_equal_scores_are_ordered_by_chunk_id() -> None:
    assert [one.chunk for one in fuse({"dense": ranking(b=0.5, a=0.5, c=0.5)})] == ["a", "b", "c"]
