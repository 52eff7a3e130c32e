"""What every `PassageStore` does. What the fence holds back is told in `test_generation_store.py`."""

from schemas.events import Filters
from schemas.ids import ChunkId
from tests.contract.factories import EAST, NORTH, embedded, key_of, name_of, origin
from tests.contract.fence import Fence

NO_FILTERS = Filters()
ONE = name_of("one")


async def test_a_passage_holds_what_is_shown_and_cited(fence: Fence) -> None:
    await fence.generation.replace(
        embedded(3, {"zero": NORTH, "one": EAST}, metadata={"tags": ["x"]}, collection="books", title="Guide")
    )

    found = await fence.passages.passages("acme", [ONE], NO_FILTERS)

    passage = found[ONE]
    assert (passage.chunk, passage.document, passage.version, passage.ordinal) == (ONE, "guide", 3, 1)
    assert (passage.text, passage.start, passage.end) == ("one", 100, 103)
    assert (list(passage.headings), passage.page) == (["Guide", "Start"], 2)
    assert [tuple(span) for span in passage.sentences] == [(0, 3)]
    assert passage.sentence_vectors.tolist() == [list(EAST)]
    assert (passage.title, passage.uri, passage.collection) == ("Guide", None, "books")
    assert passage.metadata == {"tags": ["x"]}


async def test_unknown_chunks_are_left_out(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"one": EAST}))

    assert list(await fence.passages.passages("acme", [ChunkId("f" * 32), ONE], NO_FILTERS)) == [ONE]
    assert await fence.passages.passages("acme", [], NO_FILTERS) == {}


async def test_another_tenant_sees_nothing_even_by_chunk_id(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"one": EAST}))

    assert await fence.passages.passages("umbrella", [ONE], NO_FILTERS) == {}


async def test_a_reader_outside_the_acl_sees_nothing_even_by_chunk_id(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"one": EAST}, acl=["staff"]))

    assert await fence.passages.passages("acme", [ONE], Filters(groups=["guests"])) == {}
    assert list(await fence.passages.passages("acme", [ONE], Filters(groups=["staff"]))) == [ONE]


async def test_filters_hold_whatever_a_ranker_proposed(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"one": EAST}, metadata={"lang": "en"}, collection="books"))

    assert await fence.passages.passages("acme", [ONE], Filters(collection="other")) == {}
    assert await fence.passages.passages("acme", [ONE], Filters(metadata={"lang": ["de"]})) == {}
    assert list(await fence.passages.passages("acme", [ONE], Filters(metadata={"lang": ["en"]}))) == [ONE]


async def test_one_document_may_be_hidden_beside_another(fence: Fence) -> None:
    other = key_of("other")
    await fence.generation.replace(embedded(1, {"one": EAST}))
    await fence.generation.replace(embedded(1, {"one": EAST}, key=other))
    await fence.generation.remove(other, 2)

    assert list(await fence.passages.passages("acme", [ONE, name_of("one", other)], NO_FILTERS)) == [ONE]


async def test_a_right_that_is_withdrawn_counts_before_the_index_hears_of_it(fence: Fence) -> None:
    async def seen_by(*groups: str) -> bool:
        return ONE in await fence.passages.passages("acme", [ONE], Filters(groups=list(groups)))

    async def accept(offset: int, acl: list[str] | None) -> None:
        await fence.documents.assign(key_of(), origin(offset), deleted=False, attributes={"acl": acl})

    await accept(0, ["staff", "guests"])
    await fence.generation.replace(embedded(1, {"one": EAST}, acl=["staff", "guests"]))
    assert await seen_by("guests")
    assert await seen_by("staff")

    await accept(1, ["staff", "board"])
    assert not await seen_by("guests")
    assert await seen_by("staff")
    # who gains it waits for the index
    assert not await seen_by("board")
    assert await seen_by("guests", "board")

    await fence.generation.replace(embedded(2, {"one": EAST}, acl=["staff", "board"]))
    assert await seen_by("board")
    assert not await seen_by("guests")

    # open to all, once that is indexed
    await accept(2, None)
    assert not await seen_by("guests")
    await fence.generation.replace(embedded(3, {"one": EAST}, acl=None))
    assert await seen_by()
