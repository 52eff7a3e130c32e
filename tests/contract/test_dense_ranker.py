"""What every `DenseRanker` does."""

import asyncio
from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given

from schemas.events import Filters
from schemas.ids import ChunkId
from tests.contract.conditions import (
    AGREEING,
    CASES,
    DOCUMENTS,
    conditions,
    filters,
    many_documents,
    satisfying,
)
from tests.contract.factories import EAST, NORTH, UP, embedded, key_of, name_of, origin, vector
from tests.contract.fence import AtOnce, Fence, memory_fence, opensearch_fence, postgres_fence

NO_FILTERS = Filters()
MANY: Final = many_documents(60)
SLOTS: Final = 16
STORED: Final = [
    pytest.param("pgvector", marks=pytest.mark.integration),
    pytest.param("pgvector, by the vector index", marks=pytest.mark.integration),
    pytest.param("opensearch", marks=pytest.mark.integration),
]


@pytest.fixture(params=["double", *STORED])
def fence(request: pytest.FixtureRequest) -> Fence:
    if request.param == "double":
        return memory_fence()
    if request.param == "opensearch":
        return opensearch_fence(request.getfixturevalue("opensearch_index"))
    pool = request.getfixturevalue("pool")
    return postgres_fence(pool, exact_max_rows=None if request.param == "pgvector" else 0)


async def found(fence: Fence, filters: Filters = NO_FILTERS, *, tenant: str = "acme", limit: int = 10) -> set[ChunkId]:
    return {candidate.chunk for candidate in await fence.ranker.nearest(tenant, vector(EAST), filters, limit)}


async def test_the_nearest_comes_first_and_the_score_is_the_cosine(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"far": NORTH, "near": EAST, "between": (0.6, 0.8, 0.0, 0.0)}))

    candidates = await fence.ranker.nearest("acme", vector(EAST), NO_FILTERS, 2)

    assert [candidate.chunk for candidate in candidates] == [name_of("near"), name_of("between")]
    assert [candidate.score for candidate in candidates] == pytest.approx([1.0, 0.6], abs=1e-3)


async def test_an_empty_generation_has_nothing(fence: Fence) -> None:
    assert await fence.ranker.nearest("acme", vector(EAST), NO_FILTERS, 3) == []


async def test_tenants_do_not_find_each_other(fence: Fence) -> None:
    theirs = key_of(tenant="umbrella")
    await fence.generation.replace(embedded(1, {"one": EAST}))
    await fence.generation.replace(embedded(1, {"one": EAST}, key=theirs))

    assert await found(fence) == {name_of("one")}
    assert await found(fence, tenant="umbrella") == {name_of("one", theirs)}
    assert await found(fence, tenant="nobody") == set()


async def test_an_acl_opens_a_document_to_its_groups_alone(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"open": UP}, key=key_of("open")))
    await fence.generation.replace(embedded(1, {"staff": EAST}, key=key_of("staff"), acl=["staff", "board"]))
    await fence.generation.replace(embedded(1, {"none": EAST}, key=key_of("none"), acl=[]))
    open_, staff = name_of("open", key_of("open")), name_of("staff", key_of("staff"))

    assert await found(fence) == {open_}
    assert await found(fence, Filters(groups=["guests"])) == {open_}
    assert await found(fence, Filters(groups=["guests", "board"])) == {open_, staff}


async def test_a_collection_filter_keeps_its_documents(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"a": EAST}, key=key_of("a"), collection="books"))
    await fence.generation.replace(embedded(1, {"b": EAST}, key=key_of("b")))

    assert await found(fence, Filters(collection="books")) == {name_of("a", key_of("a"))}
    assert await found(fence, Filters(collection="none")) == set()


async def test_a_metadata_filter_matches_equal_values_and_members_of_lists(fence: Fence) -> None:
    metadata = {
        "a": {"lang": "en", "tags": ["x", "y"], "year": 2024},
        "b": {"lang": ["de", "en"], "tags": "x", "final": True},
        "c": {"lang": "fr", "year": "2024", "final": 1},
    }
    for name, values in metadata.items():
        await fence.generation.replace(embedded(1, {name: EAST}, key=key_of(name), metadata=values))

    async def kept(**fields: list[str | int | float | bool]) -> str:
        ids = await found(fence, Filters(metadata=fields))
        return "".join(name for name in metadata if name_of(name, key_of(name)) in ids)

    assert await kept(lang=["en"]) == "ab"
    assert await kept(lang=["fr", "de"]) == "bc"
    assert await kept(tags=["x"]) == "ab"
    assert await kept(tags=["x"], lang=["de"]) == "b"
    assert await kept(year=[2024]) == "a"
    assert await kept(final=[True]) == "b"
    assert await kept(lang=[]) == ""
    assert await kept(absent=["x"]) == ""


async def asked(fence: Fence, where: dict[str, Any], documents: dict[str, dict[str, Any]]) -> set[str]:
    """Ask ranker and serving fence, which must agree, for names of documents."""
    names = {name_of(name, key_of(name)): name for name in documents}
    proposed = await found(fence, filters(where), limit=1_000)
    assert set(await fence.passages.passages("acme", list(names), filters(where))) == proposed
    return {names[chunk] for chunk in proposed}


async def hold(fence: Fence, documents: dict[str, dict[str, Any]]) -> None:
    for name, fields in documents.items():
        key = key_of(name)
        await fence.documents.assign(key, origin(0), deleted=False, attributes={})
        await fence.generation.replace(embedded(1, {name: EAST}, key=key, metadata=fields))


async def test_a_condition_keeps_the_documents_that_satisfy_it(fence: Fence) -> None:
    await hold(fence, DOCUMENTS)

    wrong = [
        (where, kept, expected)
        for where, expected in CASES
        if (kept := await asked(fence, where, DOCUMENTS)) != {*expected}
    ]
    assert wrong == []


@pytest.fixture
async def many(fence: Fence) -> Fence:
    await hold(fence, MANY)
    return fence


@AGREEING
@given(where=conditions)
async def test_any_condition_means_what_it_says(many: Fence, where: dict[str, Any]) -> None:
    assert await asked(many, where, MANY) == satisfying(where, MANY)


async def test_a_new_acl_holds_for_chunks_that_did_not_change(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"one": EAST}))
    await fence.generation.replace(embedded(2, {"one": EAST}, acl=["staff"]))

    assert await found(fence) == set()
    assert await found(fence, Filters(groups=["staff"])) == {name_of("one")}


async def test_a_replaced_chunk_is_not_proposed(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"old": EAST}))
    await fence.generation.replace(embedded(2, {"new": NORTH}))

    assert await found(fence) == {name_of("new")}


async def test_a_filter_that_keeps_few_of_many_still_fills_the_limit(fence: Fence) -> None:
    crowd = {f"crowd {i}": (1.0, 0.0, 0.001 * i, 0.0) for i in range(400)}
    few = {f"few {i}": (0.0, 1.0, 0.001 * i, 0.0) for i in range(5)}
    await fence.generation.replace(embedded(1, crowd, key=key_of("crowd")))
    await fence.generation.replace(embedded(1, few, key=key_of("few"), collection="few"))

    assert await found(fence, Filters(collection="few"), limit=5) == {name_of(text, key_of("few")) for text in few}


async def test_quotes_in_a_filter_are_only_text(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"one": EAST}, metadata={"it's": "' OR true --"}))

    assert await found(fence, Filters(metadata={"it's": ["' OR true --"]})) == {name_of("one")}
    assert await found(fence, Filters(metadata={"its": ["' OR true --"]})) == set()


async def test_a_shorter_version_leaves_no_tail(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"one": EAST, "two": NORTH, "three": UP}))
    await fence.generation.replace(embedded(2, {"two": NORTH}))

    assert await found(fence) == {name_of("two")}


async def test_a_deleted_document_is_gone_and_comes_back_when_it_is_added_again(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"one": EAST}))
    await fence.generation.remove(key_of(), 2)
    assert await found(fence) == set()

    await fence.generation.replace(embedded(3, {"one": EAST}))
    assert await found(fence) == {name_of("one")}


async def test_an_older_version_changes_nothing(fence: Fence) -> None:
    await fence.generation.replace(embedded(5, {"new": EAST}))
    assert await fence.generation.replace(embedded(4, {"old": EAST})) is False
    assert await fence.generation.remove(key_of(), 3) is False

    assert await found(fence) == {name_of("new")}


async def test_an_older_version_does_not_bring_back_what_was_deleted(fence: Fence) -> None:
    await fence.generation.remove(key_of(), 2)
    assert await fence.generation.replace(embedded(1, {"old": EAST})) is False

    assert await found(fence) == set()


async def test_the_same_version_again_changes_nothing(fence: Fence) -> None:
    for _ in range(2):
        assert await fence.generation.replace(embedded(1, {"one": EAST})) is True

    assert await found(fence) == {name_of("one")}


async def test_a_small_tenant_in_a_large_generation_finds_its_own(fence: Fence) -> None:
    crowd = {f"crowd {i}": (1.0, 0.0, 0.001 * i, 0.0) for i in range(3_000)}
    theirs = key_of("small", tenant="small")
    await fence.generation.replace(embedded(1, crowd, key=key_of("crowd")))
    await fence.generation.replace(embedded(1, {"far": NORTH, "near": (0.6, 0.8, 0.0, 0.0)}, key=theirs))

    candidates = await fence.ranker.nearest("small", vector(EAST), NO_FILTERS, 10)
    assert [candidate.chunk for candidate in candidates] == [name_of("near", theirs), name_of("far", theirs)]


async def test_a_small_group_of_readers_in_a_large_generation_finds_its_own(fence: Fence) -> None:
    crowd = {f"crowd {i}": (1.0, 0.0, 0.001 * i, 0.0) for i in range(3_000)}
    await fence.generation.replace(embedded(1, crowd, key=key_of("crowd"), acl=["staff"]))
    few = {"far": NORTH, "near": (0.6, 0.8, 0.0, 0.0)}
    await fence.generation.replace(embedded(1, few, key=key_of("few"), acl=["board"]))

    candidates = await fence.ranker.nearest("acme", vector(EAST), Filters(groups=["board"]), 10)
    assert [candidate.chunk for candidate in candidates] == [name_of(text, key_of("few")) for text in ("near", "far")]
    assert await found(fence, Filters(groups=["guests"])) == set()


@pytest.mark.parametrize("fence", STORED, indirect=True)
async def test_what_was_written_is_there_and_fenced_after_the_store_was_killed(
    fence: Fence, request: pytest.FixtureRequest
) -> None:
    await fence.generation.replace(embedded(2, {"kept": EAST}))
    await fence.generation.replace(embedded(1, {"deleted": EAST}, key=key_of("deleted")))
    await fence.generation.remove(key_of("deleted"), 2)

    process = "opensearch_process" if isinstance(fence.ranker, AtOnce) else "postgres_process"
    await asyncio.to_thread(request.getfixturevalue(process).restart)

    assert await found(fence) == {name_of("kept")}
    assert await fence.generation.replace(embedded(1, {"stale": EAST})) is False
    assert await fence.generation.replace(embedded(1, {"deleted": EAST}, key=key_of("deleted"))) is False
    assert await found(fence) == {name_of("kept")}
    await fence.generation.replace(embedded(3, {"newer": EAST}))
    assert await found(fence) == {name_of("newer")}


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_ten_thousand_documents_are_held_exactly(fence: Fence) -> None:
    directions = np.random.default_rng(7).normal(size=(10_000, 4))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    slots = asyncio.Semaphore(SLOTS)

    async def write(number: int) -> None:
        key, collection = key_of(f"d{number}"), f"c{number // 100}"
        async with slots:
            for version in (1, 2) if number % 10 == 0 else (1,):
                if version == 2 and number % 100 == 0:
                    await fence.generation.remove(key, version)
                else:
                    document = embedded(
                        version, {f"{number}.{version}": directions[number]}, key=key, collection=collection
                    )
                    await fence.generation.replace(document)

    await asyncio.gather(*map(write, range(10_000)))

    held = {n: name_of(f"{n}.{2 if n % 10 == 0 else 1}", key_of(f"d{n}")) for n in range(10_000) if n % 100}
    for number in (0, 47, 99):
        expected = {held[n] for n in range(100 * number, 100 * number + 100) if n % 100}
        assert await found(fence, Filters(collection=f"c{number}"), limit=200) == expected
    hits = 0
    for number in range(1, 10_000, 333):
        nearest = await fence.ranker.nearest("acme", vector(directions[number]), NO_FILTERS, 10)
        cosines = {name: float(directions[number] @ directions[n]) for n, name in held.items()}
        best = sorted(cosines, key=lambda name: -cosines[name])[:10]
        hits += len({candidate.chunk for candidate in nearest} & set(best))
    # half precision swaps neighbours that are equally far
    assert hits >= 0.95 * 10 * len(range(1, 10_000, 333))
