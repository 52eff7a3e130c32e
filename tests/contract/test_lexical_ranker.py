"""What every `LexicalRanker` does."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given

from schemas.events import Filters
from streams.adapters.opensearch_index import OpensearchIndex
from tests.contract.conditions import (
    AGREEING,
    CASES,
    DOCUMENTS,
    conditions,
    filters,
    many_documents,
    satisfying,
)
from tests.contract.lexical import (
    NOW_MS,
    Lexical,
    MemoryLexical,
    SinkLexical,
    Stored,
    TantivyLexical,
    chunked,
    found,
    key_of,
)
from tests.doubles.chunk_feed import MemoryFeed
from tests.doubles.clock import FrozenClock
from tests.doubles.lexical_ranker import MemoryLexicalRanker

MANY: Final = many_documents(60)


STORED: Final = ["tantivy", pytest.param("opensearch", marks=pytest.mark.integration)]


@pytest.fixture(params=["memory", *STORED])
def store(request: pytest.FixtureRequest) -> OpensearchIndex | str:
    index: OpensearchIndex | str = request.param
    return request.getfixturevalue("opensearch_index") if index == "opensearch" else index


@pytest.fixture
async def lexical(
    store: OpensearchIndex | str, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Lexical]:
    if isinstance(store, OpensearchIndex):
        yield SinkLexical(store, request.getfixturevalue("opensearch_process").restart)
    elif store == "memory":
        yield MemoryLexical(MemoryLexicalRanker())
    else:
        view = TantivyLexical(tmp_path / "view", MemoryFeed(), FrozenClock(ms=NOW_MS))
        yield view
        await view.stop()


async def test_the_chunk_that_holds_more_of_the_rare_words_comes_first(lexical: Lexical) -> None:
    chunks = {"both": "penstock and turbine", "one": "turbine and generator", "none": "weather report"}
    await lexical.write(key_of(), 1, chunked(key_of(), 1, chunks))
    await lexical.settle()

    assert await found(lexical, "turbine penstock") == ["both", "one"]
    assert await found(lexical, "turbine penstock", limit=1) == ["both"]


async def test_words_match_in_any_case_and_with_other_endings(lexical: Lexical) -> None:
    await lexical.write(key_of(), 1, chunked(key_of(), 1, {"c": "The Turbines were inspected"}))
    await lexical.settle()

    assert await found(lexical, "turbine") == ["c"]
    assert await found(lexical, "inspecting TURBINES") == ["c"]


async def test_titles_and_headings_are_searched(lexical: Lexical) -> None:
    await lexical.write(key_of(), 1, chunked(key_of(), 1, {"c": "It is closed."}, title="Spillway gates"))
    await lexical.settle()

    assert await found(lexical, "spillway") == ["c"]


async def test_an_update_replaces_all_chunks(lexical: Lexical) -> None:
    await lexical.write(key_of(), 1, chunked(key_of(), 1, {"a": "old words", "b": "old tail"}))
    await lexical.write(key_of(), 2, chunked(key_of(), 2, {"c": "new words"}))
    await lexical.settle()

    assert await found(lexical, "old tail words") == ["c"]


async def test_a_shorter_version_leaves_no_tail(lexical: Lexical) -> None:
    await lexical.write(key_of(), 1, chunked(key_of(), 1, {"a": "dam crest", "b": "dam toe"}))
    await lexical.settle()
    await lexical.write(key_of(), 2, chunked(key_of(), 2, {"a": "dam crest"}))
    await lexical.settle()

    assert await found(lexical, "dam") == ["a"]


async def test_a_version_without_chunks_is_not_found_and_still_fences(lexical: Lexical) -> None:
    await lexical.write(key_of(), 1, chunked(key_of(), 1, {"a": "dam"}))
    await lexical.write(key_of(), 3, chunked(key_of(), 3, {}))
    await lexical.write(key_of(), 2, chunked(key_of(), 2, {"b": "dam"}))
    await lexical.settle()

    assert await found(lexical, "dam") == []


async def test_a_deleted_document_is_gone_and_comes_back_when_it_is_added_again(lexical: Lexical) -> None:
    await lexical.write(key_of(), 1, chunked(key_of(), 1, {"a": "dam"}))
    await lexical.settle()
    await lexical.write(key_of(), 2, None)
    await lexical.settle()
    assert await found(lexical, "dam") == []

    await lexical.write(key_of(), 3, chunked(key_of(), 3, {"a": "dam"}))
    await lexical.settle()
    assert await found(lexical, "dam") == ["a"]


async def test_an_older_version_changes_nothing(lexical: Lexical) -> None:
    await lexical.write(key_of(), 5, chunked(key_of(), 5, {"new": "dam"}))
    await lexical.settle()
    await lexical.write(key_of(), 4, chunked(key_of(), 4, {"old": "dam"}))
    await lexical.write(key_of(), 3, None)
    await lexical.settle()

    assert await found(lexical, "dam") == ["new"]


async def test_an_older_version_does_not_bring_back_what_was_deleted(lexical: Lexical) -> None:
    await lexical.write(key_of(), 2, None)
    await lexical.settle()
    await lexical.write(key_of(), 1, chunked(key_of(), 1, {"old": "dam"}))
    await lexical.settle()

    assert await found(lexical, "dam") == []


async def test_the_same_version_again_changes_nothing(lexical: Lexical) -> None:
    for _ in range(2):
        await lexical.write(key_of(), 1, chunked(key_of(), 1, {"a": "dam"}))
        await lexical.settle()

    assert await found(lexical, "dam") == ["a"]


async def test_tenants_do_not_find_each_other(lexical: Lexical) -> None:
    theirs = key_of(tenant="umbrella")
    await lexical.write(key_of(), 1, chunked(key_of(), 1, {"ours": "dam"}))
    await lexical.write(theirs, 1, chunked(theirs, 1, {"theirs": "dam"}))
    await lexical.settle()

    assert await found(lexical, "dam") == ["ours"]
    assert await found(lexical, "dam", tenant="umbrella") == ["theirs"]
    assert await found(lexical, "dam", tenant="acme-2") == []
    await lexical.write(theirs, 2, None)
    await lexical.settle()
    assert await found(lexical, "dam") == ["ours"]


async def test_an_acl_opens_a_document_to_its_groups_alone(lexical: Lexical) -> None:
    for name, acl in {"open": None, "staff": ["staff", "board"], "star": ["*"], "none": []}.items():
        await lexical.write(key_of(name), 1, chunked(key_of(name), 1, {name: "dam"}, acl=acl))
    await lexical.settle()

    assert await found(lexical, "dam") == ["open"]
    assert set(await found(lexical, "dam", Filters(groups=["guests", "board"]))) == {"open", "staff"}
    assert set(await found(lexical, "dam", Filters(groups=["*"]))) == {"open", "star"}


async def test_a_collection_filter_keeps_its_documents(lexical: Lexical) -> None:
    await lexical.write(key_of("a"), 1, chunked(key_of("a"), 1, {"a": "dam"}, collection="books"))
    await lexical.write(key_of("b"), 1, chunked(key_of("b"), 1, {"b": "dam"}))
    await lexical.settle()

    assert await found(lexical, "dam", Filters(collection="books")) == ["a"]
    assert await found(lexical, "dam", Filters(collection="none")) == []


async def test_a_metadata_filter_matches_equal_values_and_members_of_lists(lexical: Lexical) -> None:
    metadata = {
        "a": {"lang": "en", "tags": ["x", "y"], "year": 2024},
        "b": {"lang": "de", "year": 2024.0, "final": True, "note": "z" * 5000},
        "c": {"year": "2024", "final": 1, "tags": {"x": 1}, "nothing": None},
    }
    for name, fields in metadata.items():
        await lexical.write(key_of(name), 1, chunked(key_of(name), 1, {name: "dam"}, metadata=fields))
    await lexical.settle()

    async def matching(**fields: list[str | int | float | bool]) -> set[str]:
        return set(await found(lexical, "dam", Filters(metadata=fields)))

    assert await matching(lang=["en"]) == {"a"}
    assert await matching(lang=["en", "de"]) == {"a", "b"}
    assert await matching(tags=["y", "q"]) == {"a"}
    assert await matching(year=[2024]) == {"a", "b"}
    assert await matching(year=["2024"]) == {"c"}
    assert await matching(final=[True]) == {"b"}
    assert await matching(note=["z" * 5000]) == {"b"}
    assert await matching(lang=["en"], year=[2024]) == {"a"}
    assert await matching(lang=["de"], tags=["x"]) == set()
    assert await matching(lang=[]) == set()


async def asked(lexical: Lexical, where: dict[str, Any]) -> set[str]:
    return set(await found(lexical, "dam", filters(where), limit=1_000))


async def hold(lexical: Lexical, documents: dict[str, dict[str, Any]]) -> None:
    for name, fields in documents.items():
        await lexical.write(key_of(name), 1, chunked(key_of(name), 1, {name: "dam"}, metadata=fields))
    await lexical.settle()


async def test_a_condition_keeps_the_documents_that_satisfy_it(lexical: Lexical) -> None:
    await hold(lexical, DOCUMENTS)

    wrong = [
        (where, kept, expected) for where, expected in CASES if (kept := await asked(lexical, where)) != {*expected}
    ]
    assert wrong == []


@pytest.fixture
async def many(lexical: Lexical) -> Lexical:
    await hold(lexical, MANY)
    return lexical


@AGREEING
@given(where=conditions)
async def test_any_condition_means_what_it_says(many: Lexical, where: dict[str, Any]) -> None:
    assert await asked(many, where) == satisfying(where, MANY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "?",
        'dam"',
        "(dam",
        "dam AND",
        "text:dam OR",
        "dam^",
        "-dam",
        "dam~2",
        "\\",
        "\x00dam",
        "\ud800 dam",
        "☃",
    ],
)
async def test_any_text_is_a_valid_query(lexical: Lexical, text: str) -> None:
    await lexical.write(key_of(), 1, chunked(key_of(), 1, {"a": "dam"}))
    await lexical.settle()

    assert await found(lexical, text) == (["a"] if "dam" in text else [])


async def test_a_text_of_a_million_characters_is_a_valid_query(lexical: Lexical) -> None:
    await lexical.write(key_of(), 1, chunked(key_of(), 1, {"a": "dam"}))
    await lexical.settle()

    assert await found(lexical, "dam " + "word " * 200_000) == ["a"]


@pytest.mark.integration
@pytest.mark.parametrize(
    "store",
    ["memory", "tantivy", pytest.param("opensearch", marks=[pytest.mark.long, pytest.mark.timeout(600)])],
    indirect=True,
)
async def test_ten_thousand_documents_are_held_exactly(lexical: Lexical) -> None:
    for version in (1, 2):
        for number in range(10_000):
            key = key_of(f"d{number}")
            if version == 1 or number % 10 == 0:
                text = f"unit{number} turbine version{version}"
                document = chunked(key, version, {f"{number}": text})
                await lexical.write(key, version, None if version == 2 and number % 100 == 0 else document)
    await lexical.settle()

    assert len(await found(lexical, "turbine", limit=20_000)) == 9_900
    assert len(await found(lexical, "version2", limit=20_000)) == 900
    assert await found(lexical, "unit4711") == ["4711"]
    assert await found(lexical, "unit4700") == []


async def test_a_small_tenant_and_a_small_group_in_a_large_index_find_their_own(lexical: Lexical) -> None:
    crowd = {f"crowd{i}": f"turbine turbine unit{i}" for i in range(3_000)}
    small = key_of("small", tenant="small")
    text = "a turbine among many other words of a text that is longer than all the others are"
    await lexical.write(key_of("crowd"), 1, chunked(key_of("crowd"), 1, crowd, acl=["staff"]))
    await lexical.write(small, 1, chunked(small, 1, {"tenant": text}))
    await lexical.write(key_of("few"), 1, chunked(key_of("few"), 1, {"group": text}, acl=["board"]))
    await lexical.settle()

    assert await found(lexical, "turbine", tenant="small") == ["tenant"]
    assert await found(lexical, "turbine", Filters(groups=["board"])) == ["group"]
    assert await found(lexical, "turbine", Filters(groups=["guests"])) == []


@pytest.mark.parametrize("store", STORED, indirect=True)
async def test_what_was_written_is_there_and_fenced_after_a_restart(lexical: Stored) -> None:
    await lexical.write(key_of(), 2, chunked(key_of(), 2, {"kept": "dam"}))
    await lexical.write(key_of("deleted"), 1, chunked(key_of("deleted"), 1, {"deleted": "dam"}))
    await lexical.write(key_of("deleted"), 2, None)
    await lexical.settle()

    await lexical.restart()

    assert await found(lexical, "dam") == ["kept"]
    await lexical.write(key_of(), 1, chunked(key_of(), 1, {"stale": "dam"}))
    await lexical.write(key_of("deleted"), 1, chunked(key_of("deleted"), 1, {"deleted": "dam"}))
    await lexical.settle()
    assert await found(lexical, "dam") == ["kept"]
    await lexical.write(key_of(), 3, chunked(key_of(), 3, {"newer": "dam"}))
    await lexical.settle()
    assert await found(lexical, "dam") == ["newer"]
