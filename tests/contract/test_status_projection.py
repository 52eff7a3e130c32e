"""What every `StatusProjection` does."""

from itertools import permutations

import pytest

from schemas.events import LifecycleChanged
from tests.contract.factories import key_of, origin
from tests.contract.fence import Fence

GUIDE = key_of()


def changed(status: str, version: int, stage: str, n_chunks: int | None = None, **failure: str) -> LifecycleChanged:
    return LifecycleChanged(
        tenant="acme",
        document="guide",
        version=version,
        status=status,
        stage=stage,
        at_ms=1,
        n_chunks=n_chunks,
        reason=failure.get("reason"),
        message=failure.get("message"),
    )


ACCEPTED = changed("accepted", 1, "intake")
CHUNKED = changed("chunked", 1, "chunk")
INDEXED = changed("indexed", 1, "index", n_chunks=2)
FAILED = changed("failed", 1, "chunk", reason="not_html", message="It is not HTML.")


@pytest.fixture
async def known(fence: Fence) -> Fence:
    """A fence that knows version 1 of the guide."""
    await fence.documents.assign(GUIDE, origin(0), deleted=False, attributes={})
    return fence


async def test_any_order_of_one_versions_events_ends_at_the_last_stage(known: Fence) -> None:
    for order in permutations([ACCEPTED, CHUNKED, INDEXED]):
        for event in order:
            await known.status.project(event)

        shown = await known.shown(GUIDE)
        assert (shown.status, shown.n_chunks) == ("indexed", 2)


async def test_an_older_version_changes_nothing(known: Fence) -> None:
    await known.documents.assign(GUIDE, origin(1), deleted=False, attributes={})

    await known.status.project(INDEXED)

    shown = await known.shown(GUIDE)
    assert (shown.status, shown.status_version) == ("accepted", 2)


async def test_a_failure_shows_its_reason_until_the_version_is_indexed_after_all(known: Fence) -> None:
    await known.status.project(FAILED)
    await known.status.project(CHUNKED)
    failed = await known.shown(GUIDE)
    await known.status.project(INDEXED)
    indexed = await known.shown(GUIDE)

    assert (failed.status, failed.reason) == ("failed", "not_html")
    assert (indexed.status, indexed.reason) == ("indexed", None)


async def test_superseded_and_words_of_later_releases_change_no_status(known: Fence) -> None:
    await known.status.project(CHUNKED)
    await known.status.project(changed("superseded", 1, "index"))
    await known.status.project(changed("polished", 1, "polish"))

    assert (await known.shown(GUIDE)).status == "chunked"


async def test_warnings_gather_once_each_and_leave_the_status_alone(known: Fence) -> None:
    warned = changed("warned", 1, "intake", reason="unknown_field", message="Field 'acll' is unknown.")
    await known.status.project(warned)
    await known.status.project(warned)
    await known.status.project(changed("warned", 1, "chunk", message="No text."))

    shown = await known.shown(GUIDE)
    assert (shown.status, shown.warnings) == ("accepted", ["Field 'acll' is unknown.", "No text."])


async def test_a_new_version_begins_without_warnings(known: Fence) -> None:
    warned = changed("warned", 1, "intake", message="Field 'acll' is unknown.")
    await known.status.project(warned)
    await known.documents.assign(GUIDE, origin(1), deleted=False, attributes={})
    await known.status.project(warned)

    assert (await known.shown(GUIDE)).warnings == []


async def test_a_failure_at_intake_is_left_to_the_store_that_knows_its_place(known: Fence) -> None:
    await known.status.project(changed("failed", 1, "intake", reason="not_json"))

    assert (await known.shown(GUIDE)).status == "accepted"


async def test_an_event_of_an_unknown_document_makes_no_row(fence: Fence) -> None:
    await fence.status.project(INDEXED)

    assert await fence.documents.latest_version(GUIDE) is None
