"""Comparing a lexical view with what the generation serves, on doubles."""

import pytest

from streams.errors import Transient
from streams.operator.views import NONE, Chunks, CompareView, Held, Served, compared
from tests.contract.factories import key_of
from tests.doubles.views import MemoryServed, MemoryView, MemoryViewReports, MemoryViews

GUIDE = key_of("guide")
CHUNKS = Chunks.of(["b", "a"])
LIVE = Served(live=3, deleted=False, latest=4, chunks=CHUNKS)
DELETED = Served(live=3, deleted=True, latest=3, chunks=NONE)


@pytest.mark.parametrize(
    ("served", "held", "kind"),
    [
        (LIVE, Held(version=3, chunks=Chunks.of(["a", "b"])), None),
        (LIVE, None, "view_behind"),
        (LIVE, Held(version=2, chunks=CHUNKS), "view_behind"),
        (LIVE, Held(version=3, chunks=Chunks.of(["a"])), "view_differs"),
        (LIVE, Held(version=3, chunks=Chunks.of(["a", "c"])), "view_differs"),
        (LIVE, Held(version=4, chunks=NONE), None),
        (DELETED, None, None),
        (DELETED, Held(version=3, chunks=NONE), None),
        (DELETED, Held(version=2, chunks=CHUNKS), "view_deleted"),
        (DELETED, Held(version=4, chunks=CHUNKS), None),
    ],
)
def test_a_view_differs_where_it_does_not_hold_what_is_live(
    served: Served, held: Held | None, kind: str | None
) -> None:
    found = compared(GUIDE, served, held)

    assert (found.kind if found else None) == kind
    assert found is None or found.version == served.latest


def bench(view: MemoryView, *served: tuple[str, Served]) -> tuple[CompareView, MemoryViews]:
    views = MemoryViews(waiting=["first", "second"])
    compare = CompareView(
        views=[view],
        documents=MemoryServed(rows={key_of(name): each for name, each in served}),
        reports=MemoryViewReports(views=views, worker="w"),
    )
    return compare, views


async def test_all_verifications_that_wait_are_answered_once() -> None:
    compare, views = bench(MemoryView(), ("guide", LIVE))

    await compare.round()
    await compare.round()

    assert {id: [each.kind for each in answers["w"]] for id, answers in views.answers.items()} == {
        "first": ["view_behind"],
        "second": ["view_behind"],
    }


async def test_what_stood_in_the_topic_before_is_waited_for() -> None:
    compare, views = bench(MemoryView(later={GUIDE: Held(version=3, chunks=CHUNKS)}), ("guide", LIVE))

    await compare.round()

    assert views.answers["first"]["w"] == []


async def test_every_page_is_compared() -> None:
    compare, views = bench(MemoryView(), *((f"d{n:05}", LIVE) for n in range(2_001)))

    await compare.round()

    assert len(views.answers["first"]["w"]) == 2_001


async def test_a_view_is_alive_once_it_can_be_searched() -> None:
    class Stopped(MemoryView):
        async def catch_up(self) -> None:
            raise Transient("stopped")

    stopped, views = bench(Stopped())
    with pytest.raises(Transient):
        await stopped.seen()
    assert views.workers == set()

    compare, views = bench(MemoryView())
    await compare.seen()
    assert views.workers == {"w"}
