"""Rebuilding, on doubles: what is written, what is told, and what goes on after a death."""

from typing import Any

import pytest

from schemas.events import DocumentEmbedded
from streams.errors import Fatal, Transient
from streams.operator.rebuild import RebuildSinks, Subject
from tests.doubles.rebuilds import MemoryEmbeddings, MemoryRebuildRows, MemoryRebuilt, MemoryRebuiltViews


def embedded(document: str, version: int) -> DocumentEmbedded:
    return DocumentEmbedded(
        tenant="acme",
        document=document,
        version=version,
        generation="g1",
        chunker="structure",
        content_sha256="0" * 64,
        dim=2,
        chunks=[],
        vectors="",
        sentence_vectors="",
        submitted_ms=0,
    )


class Bench:
    """A rebuild of one generation."""

    def __init__(self, *records: tuple[str, int, bool]) -> None:
        self.rows = MemoryRebuildRows()
        self.topic = MemoryEmbeddings(
            records=[
                (f"acme/{document}", version, embedded(document, version) if there else None)
                for document, version, there in records
            ]
        )
        self.sink = MemoryRebuilt()
        self.views = MemoryRebuiltViews()
        self.known = {"g1"}
        self.rebuild = RebuildSinks(rebuilds=self.rows, find=self.find, tell_every_s=0)

    async def find(self, generation: str) -> Subject | None:
        def unreachable() -> MemoryRebuilt:
            raise Fatal("HEADRACE_OPENSEARCH_URL names no OpenSearch")

        if generation not in self.known:
            return None
        sinks = {"pgvector": lambda: self.sink, "opensearch": unreachable}
        return Subject(embeddings=self.topic, sinks=sinks, views=self.views)

    async def ask(self, sink: str = "pgvector", generation: str = "g1") -> None:
        await self.rows.ask(generation, sink=sink, asked_by="operations")

    def told(self) -> dict[str, Any]:
        return dict(self.rows.rows[-1]["progress"])


async def test_what_the_log_holds_is_written_and_counted() -> None:
    bench = Bench(("a", 1, True), ("a", 2, True), ("b", 1, True), ("b", 2, False), ("bad", 1, True))
    bench.sink.live = {"acme/a": 2, "acme/lost": 1}
    await bench.ask()

    await bench.rebuild.round()

    assert {key: event.version for key, event in bench.sink.held.items()} == {"acme/a": 2}
    assert bench.rows.rows[0]["state"] == "finished"
    assert bench.told() == {
        "n_records": 5,
        "n_documents": 2,
        "n_chunks": 0,
        "n_unreadable": 1,
        "n_offsets": 5,
        "n_passed": 5,
        "n_incomplete": 1,
    }


async def test_what_died_goes_on_where_it_was_and_counts_on() -> None:
    bench = Bench(*((f"d{n}", 1, True) for n in range(10)))
    bench.topic.breaks_at, bench.topic.error = 6, Transient("Kafka is away")
    await bench.ask()
    with pytest.raises(Transient):
        await bench.rebuild.round()
    assert bench.rows.rows[0]["state"] == "running"

    await bench.rebuild.round()

    assert bench.topic.n_read == 10
    assert (bench.told()["n_documents"], len(bench.sink.held)) == (10, 10)
    assert bench.sink.prepared == 2


async def test_a_failure_says_why_and_does_not_hold_up_the_next() -> None:
    bench = Bench(("a", 1, True))
    await bench.ask("opensearch")
    await bench.ask("pgvector", "gone")
    await bench.ask("pgvector")

    await bench.rebuild.round()

    ends = [(row["state"], row["why"]) for row in bench.rows.rows]
    assert ends == [
        ("failed", "HEADRACE_OPENSEARCH_URL names no OpenSearch"),
        ("failed", "generation 'gone' holds no documents (any more)"),
        ("finished", None),
    ]


async def test_a_bug_is_no_endless_loop() -> None:
    bench = Bench(("a", 1, True))
    bench.topic.breaks_at, bench.topic.error = 0, KeyError("x")
    await bench.ask()

    await bench.rebuild.round()

    assert bench.rows.rows[0]["state"] == "failed"
    assert bench.rows.rows[0]["why"] == "KeyError; see the log of the operator stage"


async def test_views_are_rebuilt_one_after_the_other_and_those_that_went_away_are_named() -> None:
    bench = Bench()
    bench.views.workers, bench.views.leaving = ["w1", "w2", "w3"], {"w2"}
    await bench.ask("tantivy")

    await bench.rebuild.round()

    assert bench.views.told == ["w1", "w2", "w3"]
    assert bench.told() == {"n_views": 3, "n_done": 2, "gone": ["w2"]}
