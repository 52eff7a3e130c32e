"""The lexical view over restarts: what it trusts, what it builds again, and what does not stop it."""

import asyncio
import shutil
from pathlib import Path

import pytest

from schemas import codec
from schemas.events import Filters
from streams.adapters.tantivy_index import Place, TantivyIndex
from streams.adapters.tantivy_view import TantivyView
from streams.errors import Fatal, Transient
from streams.operator.views import NONE, Chunks, Held
from tests.contract.lexical import NOW_MS, NoBlobs, TantivyLexical, chunked, found, key_of
from tests.doubles.chunk_feed import MemoryFeed
from tests.doubles.clock import FrozenClock

DAY_MS = 24 * 3600 * 1000


async def written(folder: Path, feed: MemoryFeed) -> None:
    """Let a view read two documents, one of them deleted, and stop it."""
    view = TantivyLexical(folder, feed, FrozenClock(ms=NOW_MS))
    await view.write(key_of("kept"), 1, chunked(key_of("kept"), 1, {"kept": "dam"}))
    await view.write(key_of("gone"), 1, chunked(key_of("gone"), 1, {"gone": "dam"}))
    await view.write(key_of("gone"), 2, None)
    await view.settle()
    await view.stop()
    feed.n_read = 0


async def test_a_restart_goes_on_where_the_last_commit_stood(tmp_path: Path) -> None:
    feed = MemoryFeed()
    await written(tmp_path / "view", feed)

    view = TantivyLexical(tmp_path / "view", feed, FrozenClock(ms=NOW_MS))
    await view.ranker.catch_up()

    assert feed.n_read == 0
    assert await found(view, "dam") == ["kept"]
    await view.write(key_of("gone"), 1, chunked(key_of("gone"), 1, {"gone": "dam"}))
    await view.settle()
    assert await found(view, "dam") == ["kept"]
    await view.stop()


async def test_a_delete_that_came_while_it_was_off_is_right_at_once(tmp_path: Path) -> None:
    feed = MemoryFeed()
    await written(tmp_path / "view", feed)
    feed.append(await codec.encode(None, key=key_of("kept").encode(), source="/test", blobs=NoBlobs(), version=2))

    view = TantivyLexical(tmp_path / "view", feed, FrozenClock(ms=NOW_MS))
    await view.ranker.catch_up()

    assert await found(view, "dam") == []
    await view.stop()


@pytest.mark.parametrize("damage", ["folder", "index", "meta", "segments"])
async def test_lost_or_damaged_files_are_built_again(tmp_path: Path, damage: str) -> None:
    feed, folder = MemoryFeed(), tmp_path / "view"
    await written(folder, feed)
    if damage == "folder":
        shutil.rmtree(folder)
    elif damage == "index":
        shutil.rmtree(folder / "index")
    elif damage == "meta":
        (folder / "index" / "meta.json").write_text("{")
    else:
        for file in (folder / "index").glob("*.store"):
            file.unlink()

    view = TantivyLexical(folder, feed, FrozenClock(ms=NOW_MS))
    await view.ranker.catch_up()

    assert feed.n_read == 4
    assert await found(view, "dam") == ["kept"]
    await view.stop()


async def test_a_topic_that_was_made_again_is_read_from_its_beginning(tmp_path: Path) -> None:
    await written(tmp_path / "view", MemoryFeed())
    feed = MemoryFeed(identity="topic-2", ends={0: 100, 1: 0})

    view = TantivyLexical(tmp_path / "view", feed, FrozenClock(ms=NOW_MS))
    await view.write(key_of("other"), 1, chunked(key_of("other"), 1, {"other": "dam"}))
    await view.settle()

    assert await found(view, "dam") == ["other"]
    await view.stop()


@pytest.mark.parametrize(("first", "end"), [(50, 60), (0, 2)])
async def test_a_place_outside_the_log_means_a_new_beginning(tmp_path: Path, first: int, end: int) -> None:
    await written(tmp_path / "view", MemoryFeed())
    feed = MemoryFeed(firsts={0: first, 1: 0}, ends={0: end, 1: 0})

    view = TantivyLexical(tmp_path / "view", feed, FrozenClock(ms=NOW_MS))
    await view.ranker.catch_up()

    assert await found(view, "dam") == []
    await view.stop()


async def test_a_place_older_than_seven_days_is_not_trusted(tmp_path: Path) -> None:
    feed = MemoryFeed()
    await written(tmp_path / "view", feed)

    view = TantivyLexical(tmp_path / "view", feed, FrozenClock(ms=NOW_MS + 7 * DAY_MS + 1))
    await view.ranker.catch_up()

    assert feed.n_read == 4
    assert await found(view, "dam") == ["kept"]
    await view.stop()


async def test_gaps_at_the_end_of_the_log_do_not_hold_it_up(tmp_path: Path) -> None:
    view = TantivyLexical(tmp_path / "view", MemoryFeed(ends={0: 7, 1: 3}), FrozenClock(ms=NOW_MS))

    await asyncio.wait_for(view.ranker.catch_up(), 5)

    assert await found(view, "dam") == []
    await view.stop()


async def test_records_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    feed = MemoryFeed()
    for record in (
        codec.Record(key=b"acme/doc", value=b"not json", headers={"hr_version": b"1"}),
        codec.Record(key=b"no slash", value=b"{}"),
        codec.Record(key=None, value=None),
        codec.Record(key=b"acme/doc", value=None),
        codec.Record(key=b"acme/doc", value=b"{}", headers={"hr_blob": b"lost", "hr_version": b"1"}),
    ):
        feed.append(record)

    view = TantivyLexical(tmp_path / "view", feed, FrozenClock(ms=NOW_MS))
    await view.write(key_of(), 1, chunked(key_of(), 1, {"good": "dam"}))
    await view.settle()

    assert await found(view, "dam") == ["good"]
    await view.stop()


async def test_nothing_is_answered_before_it_has_caught_up(tmp_path: Path) -> None:
    view = TantivyView(folder=tmp_path / "view", feed=MemoryFeed(), blobs=NoBlobs(), clock=FrozenClock(ms=NOW_MS))

    with pytest.raises(Transient, match="not caught up"):
        await view.matching("acme", "dam", Filters(), 1)


async def test_nothing_is_answered_after_it_has_stopped(tmp_path: Path) -> None:
    view = TantivyLexical(tmp_path / "view", MemoryFeed(), FrozenClock(ms=NOW_MS))
    await view.ranker.catch_up()
    await view.stop()

    with pytest.raises(Transient):
        await found(view, "dam")


def test_a_folder_that_is_owned_is_refused(tmp_path: Path) -> None:
    owner = TantivyIndex(tmp_path)

    with pytest.raises(Fatal, match="owned by another process"):
        TantivyIndex(tmp_path)

    owner.close()
    TantivyIndex(tmp_path).close()


async def test_a_view_that_cannot_begin_says_so_to_those_who_wait(tmp_path: Path) -> None:
    (tmp_path / "view").write_text("a file, where the folder should be")
    view = TantivyView(folder=tmp_path / "view", feed=MemoryFeed(), blobs=NoBlobs(), clock=FrozenClock(ms=NOW_MS))

    with pytest.raises(Fatal, match="cannot be written"):
        await view.run()
    with pytest.raises(Transient, match="stopped"):
        await view.catch_up()


async def test_what_is_held_is_shown_once_the_end_of_the_log_is_reached(tmp_path: Path) -> None:
    view = TantivyLexical(tmp_path / "view", MemoryFeed(), FrozenClock(ms=NOW_MS))
    await view.ranker.catch_up()
    for number in range(50):
        await view.write(key_of("kept"), number, chunked(key_of("kept"), 1, {"a": "dam", f"b{number}": "weir"}))
    await view.write(key_of("gone"), 1, chunked(key_of("gone"), 1, {"c": "dam"}))
    await view.write(key_of("gone"), 2, None)
    await view.write(key_of("empty"), 1, chunked(key_of("empty"), 1, {}))
    keys = [key_of(name) for name in ("kept", "gone", "empty", "unknown")]

    await asyncio.wait_for(view.ranker.reach_end(), 5)

    assert await view.ranker.held(keys) == {
        key_of("kept"): Held(version=49, chunks=Chunks.of(["a", "b49"])),
        key_of("gone"): Held(version=2, chunks=NONE),
        key_of("empty"): Held(version=1, chunks=NONE),
    }
    await view.stop()


async def test_a_view_that_has_stopped_reaches_no_end_and_shows_nothing(tmp_path: Path) -> None:
    view = TantivyLexical(tmp_path / "view", MemoryFeed(), FrozenClock(ms=NOW_MS))
    await view.ranker.catch_up()
    await view.stop()
    await view.write(key_of(), 1, None)

    with pytest.raises(Transient):
        await view.ranker.reach_end()
    with pytest.raises(Transient):
        await view.ranker.held([key_of()])


async def test_a_view_is_built_anew_beside_itself_and_goes_on(tmp_path: Path) -> None:
    feed = MemoryFeed()
    view = TantivyLexical(tmp_path / "view", feed, FrozenClock(ms=NOW_MS))
    await view.write(key_of("kept"), 1, chunked(key_of("kept"), 1, {"kept": "dam"}))
    await view.write(key_of("lost"), 1, chunked(key_of("lost"), 1, {"lost": "dam"}))
    await view.settle()
    # what nobody can see from outside: a document that is in the log and not in the index
    assert view.ranker._index is not None
    view.ranker._index.remove(key_of("lost"), 1)
    view.ranker._index.commit(Place(topic_id=feed.identity, next_offsets=dict(feed.ends), committed_ms=NOW_MS))
    assert await found(view, "dam") == ["kept"]

    rebuilding = asyncio.create_task(view.ranker.rebuild())
    while not rebuilding.done():
        try:
            assert await found(view, "dam") in (["kept"], ["kept", "lost"], ["lost", "kept"])
        except Transient:
            # for the moment in which it takes the other's place
            await asyncio.sleep(0.01)
    await rebuilding

    assert sorted(await found(view, "dam")) == ["kept", "lost"]
    assert [path.name for path in tmp_path.iterdir()] == ["view"]
    await view.write(key_of("new"), 1, chunked(key_of("new"), 1, {"new": "dam"}))
    await view.settle()
    assert sorted(await found(view, "dam")) == ["kept", "lost", "new"]
    await view.stop()


async def test_a_view_that_is_rebuilt_and_cannot_says_so_and_stays(tmp_path: Path) -> None:
    feed = MemoryFeed()
    view = TantivyLexical(tmp_path / "view", feed, FrozenClock(ms=NOW_MS))
    await view.write(key_of("kept"), 1, chunked(key_of("kept"), 1, {"kept": "dam"}))
    await view.settle()
    (tmp_path / "view.new").write_text("no folder")

    with pytest.raises(Transient, match="stopped"):
        await view.ranker.rebuild()

    assert await found(view, "dam") == ["kept"]
    await view.stop()
    with pytest.raises(Transient):
        await view.ranker.rebuild()
