"""Index generations in Postgres: asked for by the gateway, carried out by the operator stage, read by workers."""

from typing import Any

import asyncpg
import pytest

from gateway.generation_rows import PostgresGenerationRows
from schemas.ids import DocumentId, DocumentKey, Tenant
from streams.adapters.postgres_catalogue import PostgresCatalogue
from streams.adapters.postgres_generations import PostgresGenerations
from streams.adapters.postgres_shadows import PostgresShadows
from streams.adapters.postgres_sunk import PostgresSunk
from streams.operator.generations import Missing, Readers, Switch
from tests.contract.factories import key_of
from tests.contract.letters import give_up

pytestmark = pytest.mark.integration
Pool = asyncpg.Pool
ID = "00000000-0000-7000-8000-000000000001"


@pytest.fixture(autouse=True)
async def g1_alone(generations_pool: "Pool[Any]") -> None:
    """There is no generation but g1, which answers."""


def sides(pool: "Pool[Any]") -> tuple[PostgresGenerationRows, PostgresGenerations, PostgresCatalogue]:
    return (
        PostgresGenerationRows(pool=pool, alias="live"),
        PostgresGenerations(pool=pool, alias="live"),
        PostgresCatalogue(pool=pool, alias="live"),
    )


async def accept(pool: "Pool[Any]", document: str, *, age_s: float, deleted: bool = False) -> None:
    await pool.execute(
        "INSERT INTO documents (tenant, document, latest_version, deleted, status, status_version, status_rank, "
        "accepted_at) VALUES ('acme', $1, 2, $2, 'chunked', 2, 2, now() - make_interval(secs => $3))",
        document,
        deleted,
        age_s,
    )


async def serve(pool: "Pool[Any]", generation: str, document: str, version: int) -> None:
    await pool.execute(
        "INSERT INTO live (generation, tenant, document, version, n_chunks) VALUES ($1, 'acme', $2, $3, 7)",
        generation,
        document,
        version,
    )


async def switch_to(gateway: PostgresGenerationRows, operator: PostgresGenerations, name: str) -> Switch:
    await gateway.switch(name, previous="g1", kind="switch", forced=False, gate=None, asked_by="acme")
    found = await operator.switch()
    assert found is not None
    return found


async def test_one_that_is_asked_for_is_made_and_then_held(pool: "Pool[Any]") -> None:
    gateway, operator, catalogue = sides(pool)

    assert await gateway.ask("g2", chunker="tokens", embedder="e", lexical="tantivy", vectors="pgvector")
    assert not await gateway.ask("g2", chunker="tokens", embedder="e", lexical="tantivy", vectors="pgvector")
    [asked] = await operator.wanted("asked")
    assert (asked.name, asked.chunker, asked.dim, asked.state) == ("g2", "tokens", 0, "asked")
    assert [each.name for each in await catalogue.held()] == ["g1"]
    for _ in range(2):
        await operator.made("g2", 8)

    assert [(each.name, each.dim) for each in await catalogue.held()] == [("g1", 4), ("g2", 8)]
    assert await catalogue.serving() == "g1"
    assert await pool.fetchval("SELECT count(*) FROM chunks_g2") == 0


async def test_only_what_does_not_answer_and_is_not_about_to_changes_its_state(pool: "Pool[Any]") -> None:
    gateway, operator, _ = sides(pool)
    await gateway.ask("g2", chunker="tokens", embedder="e", lexical="tantivy", vectors="pgvector")
    await operator.made("g2", 8)

    assert not await gateway.change("g1", "paused", from_states=("following",))
    assert await gateway.change("g2", "paused", from_states=("following",))
    assert not await gateway.change("g2", "paused", from_states=("following",))
    assert await gateway.change("g2", "following", from_states=("paused",))
    await switch_to(gateway, operator, "g2")
    assert not await gateway.change("g2", "dropping", from_states=("following",))
    assert await gateway.cancel_switch()
    assert await gateway.change("g2", "dropping", from_states=("following",))


async def test_a_switch_waits_for_what_was_accepted_before_it_and_is_not_covered(pool: "Pool[Any]") -> None:
    gateway, operator, _ = sides(pool)
    await gateway.ask("g2", chunker="tokens", embedder="e", lexical="tantivy", vectors="pgvector")
    await operator.made("g2", 8)
    for document, deleted in (("covered", False), ("behind", False), ("missing", False), ("gone", True)):
        await accept(pool, document, age_s=60, deleted=deleted)
    await serve(pool, "g2", "covered", 2)
    await serve(pool, "g2", "behind", 1)
    await accept(pool, "failed", age_s=60)
    await pool.execute("UPDATE documents SET status = 'failed' WHERE document = 'failed'")
    switch = await switch_to(gateway, operator, "g2")
    await accept(pool, "later", age_s=-60)

    assert await operator.missing(switch) == 2
    for n, (version, reason) in enumerate([(2, "malformed"), (1, "too_large")]):
        await give_up(pool, n, "missing", version, "rag.embed.g2", reason=reason)
    behind, gone = await operator.which_missing(switch, 9)
    assert behind == Missing(key=DocumentKey(Tenant("acme"), DocumentId("behind")), version=2, given_up=None)
    assert (gone.key.document, gone.given_up) == ("missing", "embed (malformed: m)")
    assert await operator.which_missing(switch, 1) == [behind]
    progress = await gateway.progress("g2")
    assert (progress["n_documents"], progress["n_covered"], progress["n_failed"]) == (6, 2, 2)


async def test_a_document_is_covered_once_opensearch_holds_it_too(pool: "Pool[Any]") -> None:
    gateway, operator, catalogue = sides(pool)
    await gateway.ask("g2", chunker="tokens", embedder="e", lexical="opensearch", vectors="pgvector")
    await operator.made("g2", 8)
    assert await pool.fetchval("SELECT to_regclass('chunks_g2_by_embedding')") is not None
    [_, held] = await catalogue.held()
    shown = await gateway.find("g2")
    assert shown is not None
    assert (held.lexical, held.vectors, held.in_opensearch) == ("opensearch", "pgvector", True)
    assert (shown["lexical"], shown["vectors"]) == ("opensearch", "pgvector")
    sunk = PostgresSunk(pool=pool, generation="g2")
    for document, version, deleted in (("both", 2, False), ("behind", 1, False), ("not", 0, False), ("left", 1, True)):
        await accept(pool, document, age_s=60, deleted=deleted)
        await serve(pool, "g1", document, 2)
        await serve(pool, "g2", document, 2)
        if version:
            await sunk.sunk(key_of(document), version)
    await sunk.sunk(key_of("both"), 1)
    # a delete of what never stood there
    await accept(pool, "gone", age_s=60, deleted=True)
    await serve(pool, "g1", "gone", 2)
    await serve(pool, "g2", "gone", 2)
    switch = await switch_to(gateway, operator, "g2")

    assert [(await gateway.progress(each))["n_covered"] for each in ("g1", "g2")] == [5, 2]
    assert await operator.missing(switch) == 3
    for document in ("behind", "not", "left"):
        await sunk.sunk(key_of(document), 2)
    assert await operator.missing(switch) == 0
    assert (await gateway.progress("g2"))["n_covered"] == 5

    assert await sunk.forget() == 4
    assert await operator.missing(switch) == 3
    await sunk.sunk(key_of("both"), 2)
    await operator.dropped("g2")
    assert await pool.fetchval("SELECT count(*) FROM sunk") == 0


async def test_what_a_generation_alone_gave_up_counts_as_failed_until_it_is_sent_again(pool: "Pool[Any]") -> None:
    gateway, operator, _ = sides(pool)
    await gateway.ask("g2", chunker="tokens", embedder="e", lexical="tantivy", vectors="pgvector")
    await operator.made("g2", 8)
    groups = ("rag.chunk.tokens", "rag.embed.g2", "rag.index.g2", "rag.embed.g1", "rag.embed.g22", "")
    for n, group in enumerate(groups):
        await accept(pool, f"d{n}", age_s=60)
        await give_up(pool, n, f"d{n}", 2, group)
    await accept(pool, "changed", age_s=60)
    await give_up(pool, 10, "changed", 1, "rag.embed.g2")
    await accept(pool, "served", age_s=60)
    await serve(pool, "g2", "served", 2)
    await give_up(pool, 11, "served", 2, "rag.embed.g2")
    switch = await switch_to(gateway, operator, "g2")

    async def counted(name: str) -> tuple[int, int, int]:
        now = await gateway.progress(name)
        return now["n_documents"], now["n_covered"], now["n_failed"]

    assert await counted("g2") == (8, 1, 3)
    assert await counted("g1") == (8, 0, 1)
    # a switch still asks about them: what answers may serve them
    assert await operator.missing(switch) == 7
    told = {str(each.key.document): each.given_up for each in await operator.which_missing(switch, 10)}
    assert told["d1"] == "embed (bug: m)"
    assert told["d3"] is None
    await pool.execute("UPDATE dead_letters SET state = 'discarded' WHERE document = 'd0'")
    await pool.execute("UPDATE dead_letters SET state = 'redriven' WHERE document = 'd1'")
    assert await counted("g2") == (8, 1, 2)


async def test_vectors_that_opensearch_searches_have_no_index_beside_it(pool: "Pool[Any]") -> None:
    gateway, operator, _ = sides(pool)
    await gateway.ask("g2", chunker="tokens", embedder="e", lexical="tantivy", vectors="opensearch")
    await operator.made("g2", 8)

    assert await pool.fetchval("SELECT to_regclass('chunks_g2')") is not None
    assert await pool.fetchval("SELECT to_regclass('chunks_g2_by_embedding')") is None


async def test_the_alias_moves_once_and_statuses_follow(pool: "Pool[Any]") -> None:
    gateway, operator, catalogue = sides(pool)
    await gateway.ask("g2", chunker="tokens", embedder="e", lexical="tantivy", vectors="pgvector")
    await operator.made("g2", 8)
    await accept(pool, "silent", age_s=60)
    await serve(pool, "g2", "silent", 2)
    await accept(pool, "behind", age_s=60)
    await serve(pool, "g2", "behind", 1)
    switch = await switch_to(gateway, operator, "g2")
    assert await gateway.switch("g2", previous="g1", kind="switch", forced=True, gate=None, asked_by="acme") is None

    assert await operator.move(switch)
    assert not await operator.move(switch)
    assert await catalogue.serving() == "g2"
    for _ in range(2):
        await operator.settle(switch)

    rows = await pool.fetch("SELECT document, status, status_version, n_chunks FROM documents ORDER BY 1")
    assert [tuple(row) for row in rows] == [("behind", "chunked", 2, None), ("silent", "indexed", 2, 7)]
    assert [each["state"] for each in await gateway.switches(5)] == ["done"]
    assert await operator.switch() is None


async def test_what_is_paused_meanwhile_does_not_answer(pool: "Pool[Any]") -> None:
    gateway, operator, catalogue = sides(pool)
    await gateway.ask("g2", chunker="tokens", embedder="e", lexical="tantivy", vectors="pgvector")
    await operator.made("g2", 8)
    switch = await switch_to(gateway, operator, "g2")
    await pool.execute("UPDATE generations SET state = 'paused' WHERE generation = 'g2'")

    assert not await operator.move(switch)
    assert await catalogue.serving() == "g1"


async def test_readers_are_those_that_were_seen_lately(pool: "Pool[Any]") -> None:
    _, operator, _ = sides(pool)
    for worker, generation, age_s in (("a", "g1", 0), ("a", "g2", 0), ("b", "g1", 0), ("c", "g2", 60)):
        await pool.execute(
            "INSERT INTO lexical_views VALUES ($1, $2, now() - make_interval(secs => $3))", worker, generation, age_s
        )

    assert await operator.readers("g2") == Readers(workers={"a", "b"}, ready={"a"})


async def test_a_dropped_one_leaves_its_name_and_nothing_else(pool: "Pool[Any]") -> None:
    gateway, operator, catalogue = sides(pool)
    await gateway.ask("g2", chunker="structure", embedder="e", lexical="tantivy", vectors="pgvector")
    await operator.made("g2", 8)
    await serve(pool, "g2", "kept", 1)
    await serve(pool, "g1", "kept", 1)
    assert await operator.chunker_needed("structure", "g2")
    assert not await operator.chunker_needed("tokens", "g2")

    for _ in range(2):
        await operator.dropped("g2")

    assert await pool.fetchval("SELECT to_regclass('chunks_g2')") is None
    assert await pool.fetchval("SELECT array_agg(generation) FROM live") == ["g1"]
    assert [each.name for each in await catalogue.held()] == ["g1"]
    assert not await gateway.ask("g2", chunker="tokens", embedder="e", lexical="tantivy", vectors="pgvector")


async def test_a_share_of_the_questions_begins_now_and_what_it_found_is_shown(pool: "Pool[Any]") -> None:
    gateway, operator, _ = sides(pool)
    await gateway.ask("g2", chunker="tokens", embedder="e", lexical="tantivy", vectors="pgvector")
    assert not await gateway.shadow("g2", 0.5)
    await operator.made("g2", 8)
    assert (await gateway.progress("g2"))["shadow"] is None

    assert await gateway.shadow("g2", 0.5)
    first = (await gateway.progress("g2"))["shadow"]
    # a larger share goes on, and one that follows none begins again
    assert await gateway.shadow("g2", 1.0)
    larger = (await gateway.progress("g2"))["shadow"]
    assert await gateway.shadow("g2", 0.0)
    await PostgresShadows(pool=pool, alias="live").report("g2", "m", {"n": 3, "base": "g1"})
    assert await gateway.shadow("g2", 0.1)
    again = (await gateway.progress("g2"))["shadow"]

    assert first.keys() == {"since", "n_dropped"}
    assert first["since"] == larger["since"] < again["since"]
    assert (again["n"], again["base"], again["n_dropped"]) == (3, "g1", 0)
    found = await gateway.find("g2")
    assert found is not None
    assert found["shadow_share"] == 0.1
    assert not await gateway.shadow("g1", 0.1)
    assert not await gateway.shadow("g9", 0.0)


async def test_shadows_go_with_their_generation(pool: "Pool[Any]") -> None:
    gateway, operator, _ = sides(pool)
    await gateway.ask("g2", chunker="tokens", embedder="e", lexical="tantivy", vectors="pgvector")
    await operator.made("g2", 8)
    await gateway.shadow("g2", 1.0)
    await pool.execute("INSERT INTO shadows (generation, query, base, lease_until) VALUES ('g2', $1, 'g1', now())", ID)

    await operator.dropped("g2")

    assert await pool.fetchval("SELECT count(*) FROM shadows") == 0
    assert await pool.fetchval("SELECT shadow_share FROM generations WHERE generation = 'g2'") == 0
