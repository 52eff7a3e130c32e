"""What every `GenerationStore` does, seen through the passages it lets out."""

import msgspec
import pytest

from schemas.events import Filters
from schemas.ids import DocumentKey
from streams.errors import Unprocessable
from tests.contract.factories import EAST, NORTH, UP, embedded, key_of, name_of, origin
from tests.contract.fence import Fence

GUIDE = key_of()
NO_FILTERS = Filters()
TEXTS = ("one", "two", "three", "four")


async def served(fence: Fence, key: DocumentKey = GUIDE) -> dict[str, int]:
    """Return text -> version of what readers of the key's tenant see."""
    found = await fence.passages.passages(key.tenant, [name_of(text, key) for text in TEXTS], NO_FILTERS)
    return {passage.text: passage.version for passage in found.values()}


async def test_a_version_becomes_live_with_exactly_its_chunks(fence: Fence) -> None:
    assert await fence.generation.replace(embedded(1, {"one": EAST, "two": NORTH})) is True

    assert await served(fence) == {"one": 1, "two": 1}


async def test_a_shorter_version_leaves_no_tail(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"one": EAST, "two": NORTH, "three": UP}))
    await fence.generation.replace(embedded(2, {"two": NORTH}))

    assert await served(fence) == {"two": 2}
    assert await fence.generation.known_vectors([name_of("one"), name_of("three")]) == {}


async def test_a_version_without_chunks_leaves_nothing(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"one": EAST}))
    assert await fence.generation.replace(embedded(2, {})) is True

    assert await served(fence) == {}


async def test_an_older_version_changes_nothing(fence: Fence) -> None:
    await fence.generation.replace(embedded(2, {"two": NORTH}))

    assert await fence.generation.replace(embedded(1, {"one": EAST})) is False
    assert await fence.generation.remove(GUIDE, 1) is False
    assert await served(fence) == {"two": 2}


async def test_the_same_version_again_changes_nothing_visible(fence: Fence) -> None:
    document = embedded(1, {"one": EAST, "two": NORTH})
    await fence.generation.replace(document)

    assert await fence.generation.replace(document) is True
    assert await served(fence) == {"one": 1, "two": 1}


async def test_an_accepted_version_is_indexed_though_a_newer_one_is_on_its_way(fence: Fence) -> None:
    for offset in (0, 1):
        await fence.documents.assign(GUIDE, origin(offset), deleted=False, attributes={})

    assert await fence.generation.replace(embedded(1, {"one": EAST})) is True
    assert await served(fence) == {"one": 1}


async def test_a_kept_chunk_takes_its_new_place_and_metadata(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"one": EAST, "two": NORTH}))
    await fence.generation.replace(
        embedded(2, {"two": NORTH, "one": EAST}, metadata={"lang": "en"}, collection="books", title="Guide")
    )

    found = await fence.passages.passages("acme", [name_of("two")], NO_FILTERS)
    passage = found[name_of("two")]
    assert (passage.ordinal, passage.start, passage.end, passage.page) == (0, 0, 3, 1)
    assert (passage.metadata, passage.collection, passage.title) == ({"lang": "en"}, "books", "Guide")


async def test_a_delete_hides_the_document_before_the_index_hears_of_it(fence: Fence) -> None:
    await fence.documents.assign(GUIDE, origin(0), deleted=False, attributes={})
    await fence.generation.replace(embedded(1, {"one": EAST}))

    await fence.documents.assign(GUIDE, origin(1), deleted=True, attributes={})

    assert await served(fence) == {}


async def test_a_version_older_than_a_delete_is_not_indexed(fence: Fence) -> None:
    await fence.documents.assign(GUIDE, origin(0), deleted=False, attributes={})
    await fence.documents.assign(GUIDE, origin(1), deleted=True, attributes={})

    assert await fence.generation.replace(embedded(1, {"one": EAST})) is False
    assert await fence.generation.remove(GUIDE, 2) is True
    assert await fence.generation.replace(embedded(1, {"one": EAST})) is False
    assert await served(fence) == {}


async def test_a_deleted_document_comes_back_with_a_newer_version(fence: Fence) -> None:
    await fence.documents.assign(GUIDE, origin(0), deleted=False, attributes={})
    await fence.generation.replace(embedded(1, {"one": EAST}))
    await fence.documents.assign(GUIDE, origin(1), deleted=True, attributes={})
    await fence.generation.remove(GUIDE, 2)
    await fence.documents.assign(GUIDE, origin(2), deleted=False, attributes={})

    assert await fence.generation.replace(embedded(3, {"one": EAST})) is True
    assert await served(fence) == {"one": 3}
    assert await fence.generation.remove(GUIDE, 2) is False


async def test_what_was_deleted_stays_hidden_while_the_document_is_on_its_way_back(fence: Fence) -> None:
    await fence.documents.assign(GUIDE, origin(0), deleted=False, attributes={})
    await fence.generation.replace(embedded(1, {"one": EAST}))
    await fence.documents.assign(GUIDE, origin(1), deleted=True, attributes={})
    await fence.documents.assign(GUIDE, origin(2), deleted=False, attributes={})

    assert await served(fence) == {}
    assert await fence.generation.replace(embedded(1, {"one": EAST})) is False
    assert await served(fence) == {}
    assert await fence.generation.replace(embedded(3, {"two": NORTH})) is True
    assert await served(fence) == {"two": 3}


async def test_removing_twice_is_harmless(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"one": EAST}))

    assert [await fence.generation.remove(GUIDE, 2), await fence.generation.remove(GUIDE, 2)] == [True, True]


async def test_two_tenants_with_the_same_ids_and_texts_do_not_meet(fence: Fence) -> None:
    theirs = key_of(tenant="umbrella")
    await fence.generation.replace(embedded(1, {"one": EAST}))
    await fence.generation.replace(embedded(4, {"one": EAST}, key=theirs))
    await fence.generation.remove(GUIDE, 2)

    assert (await served(fence), await served(fence, theirs)) == ({}, {"one": 4})


async def test_a_document_cannot_write_into_the_chunks_of_another(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"one": EAST}, acl=["staff"]))
    stolen = embedded(1, {"one": NORTH}, key=key_of("forged"))
    forged = [msgspec.structs.replace(stolen.chunks[0], id=name_of("one"))]
    await fence.generation.replace(msgspec.structs.replace(stolen, chunks=forged))

    found = await fence.passages.passages("acme", [name_of("one")], Filters(groups=["staff"]))
    assert found[name_of("one")].document == "guide"
    assert await served(fence) == {}


async def test_vectors_of_chunks_and_sentences_come_back_as_they_were(fence: Fence) -> None:
    half = (0.5, 0.5, 0.5, 0.5)
    await fence.generation.replace(embedded(1, {"one": half, "two": NORTH}))

    known = await fence.generation.known_vectors([name_of("one"), name_of("three")])

    assert list(known) == [name_of("one")]
    chunk, sentences = known[name_of("one")]
    assert (chunk.dtype.name, chunk.tolist()) == ("float32", [list(half)])
    assert (sentences.dtype.name, sentences.tolist()) == ("float32", [list(half)])


async def test_vectors_that_do_not_fit_the_chunks_are_refused(fence: Fence) -> None:
    document = embedded(1, {"one": EAST, "two": NORTH})

    with pytest.raises(Unprocessable, match="expected 2 vectors of 4"):
        await fence.generation.replace(msgspec.structs.replace(document, vectors=embedded(1, {"one": EAST}).vectors))
    with pytest.raises(Unprocessable, match="sentence_vectors"):
        await fence.generation.replace(msgspec.structs.replace(document, sentence_vectors=""))
    assert await served(fence) == {}


async def test_a_record_of_another_generation_is_refused(fence: Fence) -> None:
    with pytest.raises(Unprocessable, match="g2"):
        await fence.generation.replace(msgspec.structs.replace(embedded(1, {"one": EAST}), generation="g2"))


async def test_known_vectors_of_nothing_are_nothing(fence: Fence) -> None:
    assert await fence.generation.known_vectors([]) == {}


async def test_a_version_written_whole_does_not_keep_what_was_held(fence: Fence) -> None:
    await fence.generation.replace(embedded(1, {"one": EAST, "two": NORTH}))
    await fence.generation.replace(embedded(1, {"one": UP, "two": NORTH}))
    kept = await fence.generation.known_vectors([name_of("one")])

    assert await fence.generation.replace(embedded(1, {"one": UP, "two": NORTH}), whole=True) is True

    anew = await fence.generation.known_vectors([name_of("one")])
    assert kept[name_of("one")][0].tolist() == [list(EAST)]
    assert anew[name_of("one")][0].tolist() == [list(UP)]
    assert await served(fence) == {"one": 1, "two": 1}


async def test_an_older_version_written_whole_changes_nothing(fence: Fence) -> None:
    await fence.generation.replace(embedded(2, {"two": NORTH}))

    assert await fence.generation.replace(embedded(1, {"one": EAST}), whole=True) is False
    assert await served(fence) == {"two": 2}
