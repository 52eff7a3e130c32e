"""What every `ViewReports`, `Views` and `ServedDocuments` does."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest
import uuid_utils

from schemas.ids import DocumentKey
from streams.adapters.postgres_views import PostgresServed, PostgresViewReports, PostgresViews
from streams.operator.drift import Difference
from streams.operator.verify import Views
from streams.operator.views import Chunks, Served, ServedDocuments, ViewReports
from tests.contract.factories import key_of
from tests.doubles.views import MemoryServed, MemoryViewReports, MemoryViews

FIRST, SECOND = (str(uuid_utils.uuid7()) for _ in range(2))


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Both sides. `ask` and `end` begin and finish a verification; `leave`: a worker was seen long ago."""

    views: Views
    reports: Callable[[str], ViewReports]
    documents: ServedDocuments
    ask: Callable[[str], Awaitable[None]]
    end: Callable[[str], Awaitable[None]]
    leave: Callable[[str], Awaitable[None]]
    serve: Callable[[DocumentKey, Served, list[str]], Awaitable[None]]


def in_memory() -> Bench:
    views, documents = MemoryViews(), MemoryServed()

    async def ask(id: str) -> None:
        views.waiting.append(id)

    async def end(id: str) -> None:
        views.waiting.remove(id)

    async def leave(worker: str) -> None:
        views.workers.discard(worker)

    async def serve(key: DocumentKey, served: Served, chunks: list[str]) -> None:
        documents.rows[key] = served

    def reports(worker: str) -> ViewReports:
        return MemoryViewReports(views=views, worker=worker)

    return Bench(views=views, reports=reports, documents=documents, ask=ask, end=end, leave=leave, serve=serve)


@pytest.fixture(params=["double", pytest.param("real", marks=pytest.mark.integration)])
def bench(request: pytest.FixtureRequest) -> Bench:
    if request.param == "double":
        return in_memory()
    pool = request.getfixturevalue("pool")

    async def ask(id: str) -> None:
        await pool.execute("INSERT INTO verifications (id, repair) VALUES ($1, false)", id)

    async def end(id: str) -> None:
        await pool.execute("UPDATE verifications SET state = 'finished' WHERE id = $1", id)

    async def leave(worker: str) -> None:
        await pool.execute(
            "UPDATE lexical_views SET seen_at = seen_at - interval '16 seconds' WHERE worker = $1", worker
        )

    async def serve(key: DocumentKey, served: Served, chunks: list[str]) -> None:
        await pool.execute(
            "INSERT INTO documents (tenant, document, latest_version) VALUES ($1, $2, $3)",
            *(key.tenant, key.document, served.latest),
        )
        await pool.execute(
            "INSERT INTO live (generation, tenant, document, version, deleted, n_chunks) "
            "VALUES ('g1', $1, $2, $3, $4, 0)",
            *(key.tenant, key.document, served.live, served.deleted),
        )
        for name in chunks:
            await pool.execute(
                "INSERT INTO chunks_g1 (chunk_id, tenant, document, ordinal, text, start_char, end_char, headings, "
                "n_tokens, sentences, sentence_vectors, collection, metadata, embedding) "
                "VALUES ($3, $1, $2, 0, 't', 0, 1, '[]', 1, '[]', '', 'c', '{}', '[1,0,0,0]')",
                *(key.tenant, key.document, name),
            )

    return Bench(
        views=PostgresViews(pool=pool, generation="g1"),
        reports=lambda worker: PostgresViewReports(pool=pool, worker=worker, generation="g1"),
        documents=PostgresServed(pool=pool, generation="g1"),
        ask=ask,
        end=end,
        leave=leave,
        serve=serve,
    )


def difference(document: str = "guide", kind: str = "view_behind") -> Difference:
    return Difference(kind=kind, key=key_of(document), version=3, detail="d")


async def test_a_view_that_was_seen_lately_is_alive(bench: Bench) -> None:
    assert list(await bench.views.alive()) == []
    for worker in ("a", "b", "b"):
        await bench.reports(worker).seen()
    assert sorted(await bench.views.alive()) == ["a", "b"]

    await bench.leave("a")

    assert sorted(await bench.views.alive()) == ["b"]


async def test_each_view_answers_each_verification_that_has_not_ended_the_oldest_first(bench: Bench) -> None:
    await bench.ask(FIRST)
    await bench.ask(SECOND)
    a, b = bench.reports("a"), bench.reports("b")

    assert (await a.next(), await b.next()) == (FIRST, FIRST)
    await a.answer(FIRST, [])
    assert (await a.next(), await b.next()) == (SECOND, FIRST)
    await bench.end(FIRST)
    assert (await a.next(), await b.next()) == (SECOND, SECOND)
    await a.answer(SECOND, [])
    assert await a.next() is None


async def test_what_views_found_is_told_and_an_answer_counts_once(bench: Bench) -> None:
    await bench.ask(FIRST)
    a, b = bench.reports("a"), bench.reports("b")
    assert list(await bench.views.answered(FIRST)) == []
    await a.answer(FIRST, [difference("other"), difference("guide")])
    await a.answer(FIRST, [difference("other"), difference("guide")])
    await b.answer(FIRST, [])

    assert sorted(await bench.views.answered(FIRST)) == ["a", "b"]
    assert await bench.views.found(FIRST) == [difference("guide"), difference("other")]
    assert await bench.views.found(SECOND) == []
    await bench.views.reissued(FIRST)


async def test_documents_come_page_by_page_as_they_are_served(bench: Bench) -> None:
    rows = {
        "a/ü": (Served(live=2, deleted=False, latest=3, chunks=Chunks.of(["x", "y"])), ["y", "x"]),
        "b": (Served(live=5, deleted=True, latest=5, chunks=Chunks.of([])), []),
        "c": (Served(live=1, deleted=False, latest=1, chunks=Chunks.of([])), []),
    }
    for document, (served, chunks) in rows.items():
        await bench.serve(key_of(document), served, chunks)

    first = await bench.documents.page(None, 2)
    second = await bench.documents.page(first[-1][0], 2)

    assert [(key.document, served) for key, served in (*first, *second)] == [
        (document, served) for document, (served, _) in rows.items()
    ]
    assert await bench.documents.page(second[-1][0], 2) == []
